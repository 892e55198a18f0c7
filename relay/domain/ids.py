"""Identifiers: what a task id may look like, and how relay's own ids are made.

Own ids carry a prefix that says what they name: ``tsk_ evt_ dst_ msg_ key_ sub_ ntf_ rdl_``. Random
ones take their randomness as an argument; derived ones are the same for the same input, for
ever, which is what makes a ``webhook-id`` survive a restore from backup.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

TASK_ID: Final = re.compile(r"[A-Za-z0-9._:~-]{1,200}")
"""An upstream's task id. Ids reach upstream URLs, so nothing that means anything there."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""A name of an upstream or a destination."""

INLINE_PREFIX: Final = "inline_"
"""What names of destinations begin with that a registration made by naming a URL."""

RANDOM_BYTES: Final = 15
"""Randomness of an id: 120 bits, 24 base32 characters without padding."""

_STAMP_BYTES: Final = 6
"""Milliseconds since 1970 for the next 8,900 years."""


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").lower()  # a multiple of 5 bytes needs no padding


def make(prefix: str, randomness: bytes) -> str:
    """An id such as ``tsk_…`` from ``RANDOM_BYTES`` random bytes."""
    return f"{prefix}_{_base32(randomness)}"


def stamp(now: float, randomness: bytes) -> bytes:
    """``RANDOM_BYTES`` bytes for ``make`` that begin with the time, the rest from ``randomness``.

    Rows made one after the other then lie beside each other in every index on their id: with random
    ids each commit rewrote a page per row, which was a third of what recording a new task cost. 72
    bits are left that nobody can foresee. ``now`` is epoch seconds.
    """
    milliseconds = int(now * 1000).to_bytes(_STAMP_BYTES, "big")
    return milliseconds + randomness[: RANDOM_BYTES - _STAMP_BYTES]


def derive(prefix: str, *parts: str) -> str:
    """The same id for the same parts, whatever else happens.

    >>> derive("msg", "tsk_a", "succeeded", "renders") == derive("msg", "tsk_a", "succeeded", "renders")
    True
    """
    joined = "\x00".join(parts).encode("utf-8")
    return f"{prefix}_{_base32(hashlib.sha256(joined).digest()[:RANDOM_BYTES])}"


def delivery_id(upstream: str, task_id: str, status: str, destination: str) -> str:
    """The ``webhook-id``: one per (task, status change, destination).

    Made from the upstream's names rather than from relay's own row id, so that a task that was
    registered again after its row was lost repeats the id too.
    """
    return derive("msg", upstream, task_id, status, destination)


def is_task_id(text: str) -> bool:
    """Whether ``text`` may be put into an upstream URL as a task id."""
    return TASK_ID.fullmatch(text) is not None and text not in (".", "..")


def is_name(text: str) -> bool:
    """Whether ``text`` may name an upstream or a destination."""
    return NAME.fullmatch(text) is not None


def split_reference(reference: str, upstreams: frozenset[str]) -> tuple[str | None, str]:
    """Take ``{task}`` of a URL apart into (upstream or ``None``, task id).

    ``upstream:id`` only where ``upstream`` is a configured name, because task ids may hold a
    colon themselves.
    """
    head, colon, rest = reference.partition(":")
    if colon and head in upstreams:
        return head, rest
    return None, reference
