"""``ETag`` and ``If-None-Match`` (RFC 9110): who has the answer already gets 304 instead of a body.

The tags are weak: they change with what is stored. When a task was and will be asked about is left
out, or the tag of a running task would change with every look at it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiohttp import web

import relay
from relay.store import base as store_base
from relay.web import endpoints

READS: Final = "If-None-Match"
SENDS: Final = "ETag"

_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


def of_view(view: store_base.TaskView) -> tuple[object, ...]:
    """What changes whenever anything does that is stored of a task."""
    return view.task.id, view.task.version, view.events_seen


def answer(
    call: endpoints.Call,
    make: Callable[[], object],
    *,
    state: Iterable[object],
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """What ``make`` gives as JSON, or 304. ``state`` changes whenever what is stored of the answer does."""
    tag = _tag(call.caller.key_id, state)
    sent = {**(headers or {}), SENDS: f'W/"{tag}"'}
    if _has(call.request.headers.getall(READS, ()), tag):
        return web.Response(status=304, headers=sent)
    return endpoints.answer_json(make(), headers=sent)


def _tag(key_id: str, state: Iterable[object]) -> str:
    """Of everything that the answer is made from: the caller sees no more than it may."""
    made_from = repr((relay.__version__, key_id, *state))
    return hashlib.sha256(made_from.encode()).hexdigest()[:32]


def _has(lines: Iterable[str], tag: str) -> bool:
    return any(line.strip() == "*" or tag in _TAG.findall(line) for line in lines)
