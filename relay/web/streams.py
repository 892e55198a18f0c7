"""Server-sent events: what happens to tasks, as it happens, to readers that may be slow or gone.

One stored event is one SSE event. Its ``event`` is the type, its ``data`` a ``StreamedEvent``,
its ``id`` a cursor: with ``Last-Event-ID`` (or ``?cursor=``) a reader goes on behind it and misses
nothing. The order is that of commits, the same for all readers; an event that was sent is committed.

A reader that takes nothing for ``WRITE_TIMEOUT`` is cut; what waits for it until then is bounded by
the buffers set here. Reading along is ``engine/feed.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import Any, Final

from aiohttp import web

from relay.domain import errors
from relay.engine import feed as feeds
from relay.store import base as store_base
from relay.web import cursors, endpoints, problems
from relay.web.schemas import events as schemas

CONTENT_TYPE: Final = "text/event-stream"

HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment is sent: proxies cut connections that say nothing."""

WRITE_TIMEOUT: Final = 30.0
"""Seconds that a reader may take nothing while something waits for it."""

RETRY_MS: Final = 2000
"""Milliseconds after which a browser comes back when the stream broke."""

BUFFER: Final = 32 * 1024
"""Bytes that wait in the process before writing waits, and bytes that the kernel is asked to hold."""

READERS_MAX: Final = 1_000
"""Streams and held answers of one API key (of all admins together) at a time."""

RESUME_HEADER: Final = "Last-Event-ID"

HEADERS: Final = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

_TYPE_MAX: Final = 200
_ACCEPT_MAX: Final = 1000
_WEIGHT: Final = re.compile(r"[01](\.[0-9]{0,3})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


def frame(change: store_base.Change) -> bytes:
    """One stored event as an SSE event."""
    event = change.event
    body = schemas.StreamedEvent(
        id=event.id,
        task_id=change.task_id,
        upstream=change.upstream,
        type=event.type,
        status=event.status,
        timestamp=event.timestamp,
        data=event.data,
    )
    name = _CONTROL.sub(" ", event.type)[:_TYPE_MAX].strip() or "message"
    written = body.__pydantic_serializer__.to_json(body)
    head = f"id: {cursors.of_event(event.task, event.seq)}\nevent: {name}\ndata: "
    return head.encode("utf-8", "replace") + written + b"\n\n"


def preferred(request: web.Request) -> bool:
    """Whether the caller asks for a stream rather than for JSON."""
    accept = ",".join(request.headers.getall("Accept", ()))[:_ACCEPT_MAX].lower()
    return _weight(accept, CONTENT_TYPE) > _weight(accept, "application/json")


def _weight(accept: str, kind: str) -> float:
    """The ``q`` that an ``Accept`` header gives to ``kind`` by its name, 0.0 where it is not named."""
    for offered in accept.split(","):
        name, *parameters = (part.strip() for part in offered.split(";"))
        if name == kind:
            weights = [part[2:] for part in parameters if part.startswith("q=")]
            return float(weights[0]) if weights and _WEIGHT.fullmatch(weights[0]) else 1.0
    return 0.0


def resumes_at(call: endpoints.Call, query: schemas.EventsQuery) -> str | None:
    """The cursor to go on behind: the header, which a browser sends of itself, before the query."""
    return call.request.headers.get(RESUME_HEADER, "").strip()[:300] or query.cursor


def require_room(call: endpoints.Call) -> None:
    """Raises ``problems.Problem`` 429 when this key reads along often enough."""
    if call.services.feed.readers(call.caller.scope()) >= READERS_MAX:
        raise problems.Problem(
            429,
            f"This key has {READERS_MAX} streams and waits open; close one first.",
            headers={"Retry-After": "15"},
        )


async def changes(call: endpoints.Call, *, query: schemas.ChangesQuery) -> web.StreamResponse:
    """Stream what happens to every task that this key sees.

    Server-sent events in the order of commits, from now on, or from behind ``Last-Event-ID``. Tasks
    that the key registers later come too. Ends when relay stops.
    """
    require_room(call)
    resumed = resumes_at(call, query)
    after = await call.services.store.last_event()
    if resumed is not None:
        after = min(after, cursors.any_event(resumed))
    with call.services.feed.reading(key_id=call.caller.scope(), after=after) as reader:
        return await send(call, reader, first=cursors.of_any_event(after))


async def of_task(
    call: endpoints.Call, view: store_base.TaskView, query: schemas.EventsQuery
) -> web.StreamResponse:
    """Stream the events of one task, from its first or from behind ``Last-Event-ID`` on.

    It ends once the task has ended and everything was sent. Who then comes back for more is told
    204, which makes a browser stop.
    """
    require_room(call)
    resumed = resumes_at(call, query)
    store = call.services.store
    head = await store.last_event()
    after = min(head, cursors.event(resumed, task=view.task.id))
    scope = call.caller.scope()
    with call.services.feed.reading(key_id=scope, task=view.task.id, after=after) as reader:
        again = await store.task(view.task.upstream, view.task.task_id)
        reader.ended = again is None or again.task.verdict.final
        if reader.ended and resumed is not None:
            more = await store.changes(after=after, upto=2**63 - 1, limit=1, task=view.task.id)
            if not more:
                return web.Response(status=204)
        return await send(call, reader, first=cursors.of_event(view.task.id, after))


async def send(call: endpoints.Call, reader: feeds.Reader, *, first: str) -> web.StreamResponse:
    """Send what ``reader`` reads until it is over, or nobody takes it. ``first`` is where it begins."""
    request = call.request
    request_id = request[problems.REQUEST_ID]
    response = web.StreamResponse(headers={**HEADERS, "X-Request-Id": request_id})
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        _bound(request.transport)
        # The id alone is no event, but a reader that breaks off before the first one can resume.
        await _write(response, f"retry: {RETRY_MS}\nid: {first}\n\n".encode())
        while True:
            if frames := await reader.read():
                await _write(response, b"".join(frames))
            elif reader.over:
                break
            elif not await reader.wait(HEARTBEAT):
                await call.authenticator.caller(request.headers.get("Authorization"))
                await _write(response, b":\n\n")
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # what waits for it is let go of at once
    except (ConnectionError, errors.StoreError, problems.Problem):
        # Gone, or it comes back with its Last-Event-ID and is told why by then.
        pass
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(data)


def _bound(transport: Any) -> None:
    """Let no more wait for this reader than it takes to keep a connection busy."""
    if transport is None:
        return
    transport.set_write_buffer_limits(high=BUFFER)
    held = transport.get_extra_info("socket")
    if held is not None:
        with contextlib.suppress(OSError, AttributeError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="GET",
        path=f"{endpoints.API}/events",
        handler=changes,
        answers={200: None},
        media=(CONTENT_TYPE,),
        reads=(RESUME_HEADER,),
    ),
)
