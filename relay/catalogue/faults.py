"""How something wrong with a request body is told. No fault repeats a value that the client sent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

FAULTS_MAX: Final = 50
"""Faults told of one input: more help nobody, and their number is up to the client."""

_PART_MAX: Final = 200
"""Characters of a member's name that are repeated in a pointer."""

_COMPARED_MAX: Final = 80
"""Characters of an unknown name that are compared: the comparison takes quadratic time."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong; ``pointer`` is a JSON pointer relative to the request body."""

    detail: str
    pointer: str


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) to a place in the body, its parts cut to ``_PART_MAX``."""
    escaped = (str(part)[:_PART_MAX].replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def nearest(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to ``count`` of the ``known`` names that ``name`` may have been meant to be, best first."""
    return difflib.get_close_matches(name[:_COMPARED_MAX], list(known), n=count, cutoff=cutoff)


def unknown_member(name: str, known: Iterable[str]) -> str:
    """The detail for a member that nobody asked for, with the nearest of those that there are."""
    near = nearest(name, known)
    return (
        f"This member is not known here; the nearest is {near[0]}."
        if near
        else ("This member is not known here.")
    )
