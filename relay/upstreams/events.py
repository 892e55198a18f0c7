"""What an upstream's body says: shapes, snapshots, events. Pure functions, no I/O.

The vendor documents the task body and neither the body nor the type of ``/events``, so reading
is liberal, and what it takes for what is written down here and nowhere else.

Shapes of a body (``read_body``): the task body itself; a bare list of events; a list under
``events``, ``data`` or ``items``, with or without the task body's own members around it; any of
those one level down under ``data``. A stream (SSE, NDJSON) gives its items one by one.

Members, the first that has a value, looked for in the object itself, then in the objects under
``data snapshot task payload`` and theirs:

status
    ``new_status status task_status state``; else a known word in ``to`` or at the type's end
output
    ``output outputs result``
error
    ``error error_message failure_reason fail_reason failure_message error_msg error_detail error_code``
type
    ``type event event_type name``, the SSE event's name, ``status`` where one is named, ``event``
id
    ``event_id id eventId``, the SSE id
timestamp
    ``timestamp created_at time ts occurred_at updated_at at``
next cursor
    ``next_cursor`` beside the list or around it

A status counts in any letter case and ``canceled`` is ``cancelled``; every other word is kept as
``raw_status`` with no status: nothing is guessed to be an end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeVar

from relay.domain import model
from relay.upstreams import decoding

ITEMS_MAX: Final = 5_000
"""Items looked at in one body, so that reading one stays within a fraction of a second."""

_LISTS: Final = ("events", "data", "items")
_CARRIERS: Final = ("data", "snapshot", "task", "payload")
_STATUS: Final = ("new_status", "status", "task_status", "state")
_OUTPUT: Final = ("output", "outputs", "result")
_ERROR: Final = (
    "error",
    "error_message",
    "failure_reason",
    "fail_reason",
    "failure_message",
    "error_msg",
    "error_detail",
    "error_code",
)
_TYPE: Final = ("type", "event", "event_type", "name")
_ID: Final = ("event_id", "id", "eventId")
_TIMESTAMP: Final = ("timestamp", "created_at", "time", "ts", "occurred_at", "updated_at", "at")

_WORDS: Final = {status.value: status for status in model.Status} | {"canceled": model.Status.CANCELLED}
_VOLATILE: Final = frozenset({"request_id", "next_cursor"})
"""Members that may differ between two answers that say the same of the task."""

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

T = TypeVar("T")
Members = dict[str, object]


@dataclass(frozen=True, slots=True)
class Item:
    """One event as it came: the decoded value and, from a stream, its name and id."""

    value: object
    name: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A body taken apart.

    ``items`` are the events in the upstream's order, at most ``ITEMS_MAX``; ``complete`` says
    that there are no others. ``body`` is the task body itself or the one around the events.
    ``resume_id`` is the SSE id after the last item.
    """

    items: Sequence[Item] = ()
    body: Members | None = None
    next_cursor: str | None = None
    resume_id: str | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """An event with the hash of its content, which is what cursors compare."""

    event: model.Event
    fingerprint: str


def _members(value: object) -> Members:
    return value if isinstance(value, dict) else {}


def _is_task(body: Members) -> bool:
    status = body.get("status")  # a number there is an HTTP status, of an error body
    return (isinstance(status, str) and not isinstance(status, decoding.Numeral)) or isinstance(
        body.get("task_id"), str
    )


def read_body(value: object) -> Listing:
    """Take a decoded JSON body apart. Raises ``decoding.Unreadable`` for none of the known shapes."""
    if isinstance(value, list):
        return _listing(value, body=None, next_cursor=None)
    outer = _members(value)
    body = outer
    for _ in range(2):
        for name in _LISTS:
            if isinstance(found := body.get(name), list):
                cursor = body.get("next_cursor") or outer.get("next_cursor")
                return _listing(found, body=body if _is_task(body) else None, next_cursor=cursor)
        if _is_task(body):
            return Listing(body=body)
        body = _members(body.get("data"))
    raise decoding.Unreadable("neither a task nor events")


def _listing(values: list[object], *, body: Members | None, next_cursor: object) -> Listing:
    return Listing(
        items=[Item(value) for value in values[:ITEMS_MAX]],
        body=body,
        next_cursor=next_cursor if isinstance(next_cursor, str) else None,
        complete=len(values) <= ITEMS_MAX,
    )


def read_task(value: object) -> Members:
    """The task body in a decoded answer of the task endpoint. Raises ``decoding.Unreadable``."""
    body = _members(value)
    if not _is_task(body):
        body = _members(body.get("data"))
    if not _is_task(body):
        raise decoding.Unreadable("not a task")
    return body


def task_id(value: object) -> str | None:
    """The id in a decoded answer to a create (``task_id``, else ``id``), as it came and unchecked."""
    layers = _layers(value)
    return _first(layers, ("task_id",), _id) or _first(layers, ("id",), _id)


def _layers(value: object) -> list[Members]:
    """The objects that may hold the members looked for: itself, then what it carries, two levels down."""
    if not isinstance(value, dict) or not value:
        return []
    below = _carried(value)
    return [value, *below, *(inner for outer in below for inner in _carried(outer))]


def _carried(outer: Members) -> list[Members]:
    return [inner for name in _CARRIERS if name in outer and isinstance(inner := outer[name], dict) and inner]


def _first(layers: Sequence[Members], names: Sequence[str], read: Callable[[object], T | None]) -> T | None:
    for layer in layers:
        for name in names:
            if name in layer and (found := read(layer[name])) is not None:
                return found
    return None


def _word(value: object) -> str | None:
    return decoding.short_text(value, length_max=100)


def _name(value: object) -> str | None:
    return decoding.short_text(value, length_max=200)


def _id(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _amount(value: object) -> Decimal | None:
    return decoding.money(value)


def _value(value: object) -> object | None:
    return None if value is None else decoding.clean(value)


def _failure(value: object) -> object | None:
    """An error, unless it says that there is none."""
    return None if value is None or value in (0, "", "0", [], {}) else decoding.clean(value)


def _status(layers: Sequence[Members], kind: str | None) -> tuple[model.Status | None, str | None]:
    """(status, the upstream's own word) as the members say, or else as the type does."""
    if (raw := _first(layers, _STATUS, _word)) is not None:
        return _WORDS.get(raw.lower()), raw
    hint = _first(layers, ("to",), _word) or ""
    for text in (hint, kind or ""):
        last = text.rpartition(".")[2]
        if (status := _WORDS.get(last.lower())) is not None:
            return status, last
    return None, None


def snapshot(body: object, *, kind: str | None = None) -> model.Snapshot:
    """What a decoded task body or event says of its task; any JSON gives a snapshot.

    ``kind`` is the event's type. Raises ``decoding.Unreadable`` for nesting without end only.
    """
    return _snapshot(_layers(body), kind)


def _snapshot(layers: Sequence[Members], kind: str | None) -> model.Snapshot:
    status, raw_status = _status(layers, kind)
    return model.Snapshot(
        status=status,
        raw_status=raw_status,
        request_id=_first(layers, ("request_id",), _name),
        model=_first(layers, ("model",), _name),
        cost_estimate=_first(layers, ("cost_estimate",), _amount),
        cost_actual=_first(layers, ("cost_actual",), _amount),
        output=_first(layers, _OUTPUT, _value),
        error=_first(layers, _ERROR, _failure),
    )


def is_end(item: Item) -> bool:
    """Whether an item of a stream names a terminal status, so that reading on is pointless."""
    layers = _layers(item.value)
    status, _ = _status(layers, _first(layers[:1], _TYPE, _word) or item.name)
    return status is not None and status.terminal


def meaning(body: Members) -> str:
    """A hash of what a task body says, without its events and what differs from answer to answer."""
    said = {
        name: value
        for name, value in body.items()
        if name not in _VOLATILE and not (name in _LISTS and isinstance(value, list))
    }
    return _hash(decoding.clean(said))


def _hash(clean: object, *more: str) -> str:
    text = _CANONICAL.encode([clean, *more])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:24]


def entries(items: Sequence[Item]) -> list[Entry]:
    """Every item as an event.

    Raises ``decoding.Unreadable`` for nesting without end only.
    """
    found: list[Entry] = []
    occurrences: dict[str, int] = {}
    for item in items:
        data = decoding.clean(item.value)
        fingerprint = _hash(data, item.name or "", item.id or "")
        occurrence = occurrences[fingerprint] = occurrences.get(fingerprint, 0) + 1
        found.append(Entry(_event(item, data, fingerprint, occurrence), fingerprint))
    return found


def _event(item: Item, data: object, fingerprint: str, occurrence: int) -> model.Event:
    layers = _layers(item.value)
    named = _first(layers[:1], _TYPE, _word) or item.name
    reading = _snapshot(layers, named)
    own_id = _first(layers[:1], _ID, _name) or _name(item.id)
    return model.Event(
        key=f"{own_id}#{fingerprint}" if own_id else f"#{fingerprint}.{occurrence}",
        type=named or ("status" if reading.raw_status is not None else "event"),
        id=own_id,
        timestamp=_first(layers, _TIMESTAMP, decoding.timestamp),
        data=data,
        snapshot=reading,
    )
