"""A stream of events read from an open response: SSE or NDJSON, for a moment and within limits.

A stream may stay open for ever, fall silent, or be cut by a proxy after 100 s without bytes. None
of that is a failure: what was read until then counts, and ``Streamed.settled`` says whether that
can be all there is for now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from relay.upstreams import decoding, events, sse

_NAMES_WITHOUT_MEANING: Final = frozenset({"message", "ping", "heartbeat", "keepalive", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop reading: bytes after decompression, seconds of silence, seconds in all."""

    bytes_max: int
    quiet: float
    window: float


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a stream gave. ``settled``: it ended, named an end or fell silent, rather than being cut."""

    listing: events.Listing
    settled: bool


async def read_sse(response: aiohttp.ClientResponse, limits: Limits) -> Streamed:
    """The server-sent events of ``response``. Data that is not JSON counts only under a name of its own."""
    parser = sse.SseParser(event_max=limits.bytes_max)
    items: list[events.Item] = []

    def feed(chunk: bytes) -> bool:
        ended = False
        for event in parser.feed(chunk):
            item = _sse_item(event)
            if item is not None:
                items.append(item)
                ended = ended or events.is_end(item)
        return ended or len(items) > events.ITEMS_MAX

    settled = await _pump(response, limits, feed)
    return _streamed(items, settled=settled, resume_id=parser.last_id or None)


def _sse_item(event: sse.ServerEvent) -> events.Item | None:
    named = event.name not in _NAMES_WITHOUT_MEANING
    try:
        value = decoding.decode(event.data)
    except decoding.Unreadable:
        if not named:
            return None
        value = {"data": event.data}
    return events.Item(value, name=event.name if named else None, id=event.id or None)


async def read_lines(response: aiohttp.ClientResponse, limits: Limits) -> Streamed:
    """The NDJSON lines of ``response``. A line that is not JSON ends the reading, unsettled."""
    parser = sse.LineParser(event_max=limits.bytes_max)
    items: list[events.Item] = []

    def take(lines: list[bytes]) -> bool:
        ended = False
        for line in lines:
            item = events.Item(decoding.decode(line))
            items.append(item)
            ended = ended or events.is_end(item)
        return ended or len(items) > events.ITEMS_MAX

    settled = await _pump(response, limits, lambda chunk: take(parser.feed(chunk)))
    if settled and response.content.at_eof():
        try:
            take(parser.close())
        except decoding.Unreadable:
            settled = False
    return _streamed(items, settled=settled, resume_id=None)


def _streamed(items: list[events.Item], *, settled: bool, resume_id: str | None) -> Streamed:
    complete = len(items) <= events.ITEMS_MAX
    listing = events.Listing(items=items[: events.ITEMS_MAX], resume_id=resume_id, complete=complete)
    return Streamed(listing, settled and complete)


async def _pump(response: aiohttp.ClientResponse, limits: Limits, feed: Callable[[bytes], bool]) -> bool:
    """Feed chunks until ``feed`` has enough or a limit is met; whether that is a proper stop."""
    size = 0
    try:
        async with asyncio.timeout(limits.window):
            while True:
                silence = asyncio.timeout(limits.quiet)
                try:
                    async with silence:
                        chunk = await response.content.readany()
                except TimeoutError:
                    return silence.expired()
                if not chunk:
                    return True
                size += len(chunk)
                if size > limits.bytes_max:
                    return False
                if feed(chunk):
                    return True
    except (TimeoutError, aiohttp.ClientError, OSError, decoding.Unreadable, sse.EventTooLarge):
        return False
