"""``Prefer: wait=N`` (RFC 7240): hold an answer until the task has ended."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

WAIT_MAX: Final = 60
"""Seconds that an answer is held at most; longer waits are cut by somebody in between."""

READS: Final = "Prefer"
SENDS: Final = "Preference-Applied"

_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


def asked(request: web.Request) -> int | None:
    """The seconds that the caller would wait, at most ``WAIT_MAX``; ``None`` when it would not.

    Of several ``wait`` the first counts. What cannot be heeded is ignored, as it is only preferred.
    """
    for line in request.headers.getall(READS, ()):
        for preference in line.split(","):
            if found := _WAIT.fullmatch(preference):
                return min(int(found[1]), WAIT_MAX) or None
    return None
