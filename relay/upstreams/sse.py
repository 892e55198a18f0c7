"""Streams of events taken apart while they arrive: server-sent events and NDJSON. No I/O.

Both parsers are fed bytes cut anywhere and give what is complete. Their memory is bounded by
``event_max``; the time to parse is linear in the bytes, however they are cut.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

_END_OF_LINE: Final = re.compile(r"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """One event, or one line, is larger than the parser may hold."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event. ``id`` is the last id the stream has named, ``""`` if none."""

    data: str
    name: str = "message"
    id: str = ""


class SseParser:
    """The event-stream format of the HTML standard, without its reconnecting.

    An event that is unfinished when the stream ends is never given, and its id never counts.
    """

    def __init__(self, *, event_max: int) -> None:
        """``event_max``: characters that one event may hold before ``feed`` raises ``EventTooLarge``."""
        self._event_max = event_max
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line: list[str] = []
        self._after_cr = False
        self._data: list[str] = []
        self._name = ""
        self._id = ""
        self._size = 0
        self.last_id = ""
        """The id to resume after: committed at each blank line, even of an event without data."""
        self.retry_ms: int | None = None
        """The reconnection time the stream asked for, or ``None``."""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that ``chunk`` completes."""
        text = self._decoder.decode(chunk)
        if not text:
            return []
        if self._after_cr and text[0] == "\n":
            text = text[1:]
            self._after_cr = False
            if not text:
                return []
        # A CR ends its line at once; if it was half of a CRLF, the LF is dropped when it comes.
        self._after_cr = text.endswith("\r")
        *ended, rest = _END_OF_LINE.split(text)
        events: list[ServerEvent] = []
        for part in ended:
            self._line.append(part)
            self._grow(len(part))
            line = "".join(self._line)
            self._line.clear()
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if rest:
            self._line.append(rest)
            self._grow(len(rest))
        return events

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._event_max:
            raise EventTooLarge(f"event larger than {self._event_max} characters")

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id":
            if "\0" not in value:
                self._id = value
        elif field == "retry":
            if value.isascii() and value.isdigit() and len(value) <= 9:
                self.retry_ms = int(value)
        elif not field:
            self._size -= len(line)  # a comment: kept alive for hours, a stream may send any number

    def _dispatch(self) -> ServerEvent | None:
        self.last_id = self._id
        event = None
        if self._data:
            event = ServerEvent("\n".join(self._data), self._name or "message", self._id)
        self._data.clear()
        self._name = ""
        self._size = 0
        return event


class LineParser:
    """NDJSON: one JSON text per line; blank lines mean nothing."""

    def __init__(self, *, event_max: int) -> None:
        """``event_max``: bytes that one line may hold before ``feed`` raises ``EventTooLarge``."""
        self._event_max = event_max
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes, without their ends."""
        *ended, rest = chunk.split(b"\n")
        lines: list[bytes] = []
        for part in ended:
            self._hold(part)
            lines.append(b"".join(self._rest))
            self._rest.clear()
            self._size = 0
        self._hold(rest)
        return [line for line in lines if line.strip()]

    def close(self) -> list[bytes]:
        """The last line, where a stream that ended properly left out its end."""
        line = b"".join(self._rest)
        self._rest.clear()
        self._size = 0
        return [line] if line.strip() else []

    def _hold(self, part: bytes) -> None:
        if part:
            self._rest.append(part)
            self._size += len(part)
            if self._size > self._event_max:
                raise EventTooLarge(f"line larger than {self._event_max} bytes")
