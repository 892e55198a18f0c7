"""Headers of a user's own on a webhook: which names and values are taken. Pure.

Values may be secrets: no error shows one, and of a name that cannot be one only its readable beginning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

COUNT_MAX: Final = 20
BYTES_MAX: Final = 4096
"""Of one header, name and value together: receivers refuse more than 8 kB of all headers together."""

OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
"""What relay itself says of the body and the connection."""

OUR_PREFIXES: Final = ("proxy-", "webhook-")

SECRET_LENGTH_MIN: Final = 4
"""Characters: a shorter value is a flag or a number, and stands in answers by chance."""

PART_LENGTH_MIN: Final = 8

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


class BadHeader(ValueError):
    """A header cannot be sent. The text names it, says why, and never holds its value."""


def parse(given: Mapping[str, str]) -> dict[str, str]:
    """The headers as they are sent, blanks around values removed. Raises ``BadHeader``."""
    if len(given) > COUNT_MAX:
        raise BadHeader(f"at most {COUNT_MAX} headers can be given, these are {len(given)}")
    taken: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in given.items():
        readable = _NAME.match(name)
        if readable is None or readable.group() != name:
            begins = f"one that begins with {readable.group()[:40]!r}" if readable else "one of them"
            raise BadHeader(f"{begins} is not the name of a header: letters, digits and -")
        if len(name) + len(value) > BYTES_MAX:
            raise BadHeader(f"{name[:40]} is longer than {BYTES_MAX} characters")
        if _VALUE.fullmatch(value) is None:
            raise BadHeader(f"the value of {name} holds line breaks or characters outside ASCII")
        lower = name.lower()
        if lower in OURS or lower.startswith(OUR_PREFIXES):
            raise BadHeader(f"{name} is set by relay itself; leave it out")
        if lower in seen:
            raise BadHeader(f"{name} is given twice")
        seen.add(lower)
        taken[name] = value.strip()
    return taken


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Values, and parts of them, that a peer might echo and nobody may read."""
    found: set[str] = set()
    for value in headers.values():
        if len(value) >= SECRET_LENGTH_MIN:
            found.add(value)
        found.update(part for part in re.split(r"[\s,;:=\"']+", value) if len(part) >= PART_LENGTH_MIN)
    return tuple(found)
