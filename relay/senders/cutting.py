"""Fits a message into a channel: its limits, and mentions that must not ring. Pure.

The first lines are the ones that matter (status, model, output link), so what is cut is the end. A
link is kept whole or left out whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ELLIPSIS: Final = "…"
MERGED_TITLE: Final = 16
"""Units that Apprise adds to a title which becomes the first line: markup for bold and a line break."""

WORD_MAX: Final = 40
"""A cut goes back to the start of a word unless that loses more characters than this."""

_INVISIBLE: Final = "\u200b"
# Everywhere in a text, because Discord looks inside words too.
_BROADCAST: Final = re.compile(r"@(?=(?:everyone|here|channel|all|room)\b)", re.IGNORECASE)
# A name only at the start of a word: addresses and links keep their @.
_MENTION: Final = re.compile(r"(?<![\w/.:=&?%+-])@(?=\w)")
_MARKUP: Final = re.compile(r"<(?=[@#!&])")


def utf16(text: str) -> int:
    """Length as Telegram counts it, line breaks as two; never less than the number of characters."""
    return len(text) + text.count("\n") + sum(1 for character in text if character > "\uffff")


def utf8(text: str) -> int:
    """Length in bytes, as ntfy counts it."""
    return len(text.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a channel takes. ``title`` 0: it has no titles; ``shared``: the title counts as text."""

    title: int
    text: int
    shared: bool = False
    measure: Callable[[str], int] = utf16


def fit(title: str, text: str, limits: Limits) -> tuple[str, str]:
    """Title and text that the channel takes whole. The text is never empty."""
    title = cut(" ".join(title.split()), limits.title or limits.text // 2, limits.measure)
    text = text.strip() or title or ELLIPSIS
    room = limits.text
    if title and (limits.shared or limits.title <= 0):
        room -= limits.measure(title) + MERGED_TITLE
    return title, cut(text, max(1, room), limits.measure)


def cut(text: str, limit: int, measure: Callable[[str], int] = utf16) -> str:
    """``text`` in at most ``limit`` units, ending in an ellipsis when something was left out.

    >>> cut("see https://example.com/output", 20)
    'see…'
    """
    if measure(text) <= limit:
        return text
    room = limit - measure(ELLIPSIS)
    if room <= 0:
        return ELLIPSIS[:limit]
    end, used = 0, 0
    while used + (width := measure(text[end])) <= room:
        used += width
        end += 1
    if not text[end].isspace():
        start = end
        while start > 0 and not text[start - 1].isspace():
            start -= 1
        link = "://" in text[start : end + 8]
        if start and (link or end - start <= WORD_MAX):
            end = start
    return text[:end].rstrip() + ELLIPSIS


def silence(text: str) -> str:
    """``text`` with everything that would notify people broken by an invisible character."""
    text = _BROADCAST.sub("@" + _INVISIBLE, text)
    text = _MENTION.sub("@" + _INVISIBLE, text)
    return _MARKUP.sub("<" + _INVISIBLE, text)
