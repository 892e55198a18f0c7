"""The MindVideo API as an ``Upstream``: which routes are asked, and what their answers mean.

Documented are three routes and the task body. ``/events`` is asked for JSON, SSE or NDJSON and
read by ``events.py``; where it is missing or has nothing to say, the task endpoint is asked
instead: that one is the authority. Where reading goes on is in ``cursors.py``, the limits and
failures of a request are in ``http.py``.

A poll without news is the hot path: one request, one hash of the body, no JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import yarl

from relay.domain import errors, ids, model
from relay.upstreams import base, cursors, decoding, events, http, streams

log = logging.getLogger(__name__)

EVENTS_RETRY: Final = 3600.0
"""Seconds after which an upstream without events is asked for them again."""

REFUSALS_MAX: Final = 3
"""Different tasks in a row without an events endpoint that make an upstream without one."""

PAGE_MAX: Final = 1_000
"""Events given at once; the next look gives the others."""

_URLS_MAX: Final = 4_096
"""Parsed URLs kept, about 1 kB each."""

_ACCEPT_EVENTS: Final = "application/json, text/event-stream, application/x-ndjson"
_ACCEPT_TASK: Final = {"Accept": "application/json"}
_EVENTS: Final = "E"
_TASK: Final = "T"
_ABOUT_THE_CALLER: Final = frozenset({401, 403, 408, 425, 429})
"""The 4xx that say nothing about the route."""
_WEB_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_CREATED: Final = frozenset({200, 201, 202})
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_REFUSALS: Final = {
    400: "bad_request",
    402: "payment_required",
    404: "not_found",
    409: "idempotency_mismatch",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
}


class _EventsRoute:
    """Whether the upstream's events endpoint is worth asking. It is told what happened, by task."""

    def __init__(self, *, upstream: str, monotonic: Callable[[], float]) -> None:
        self._upstream = upstream
        self._monotonic = monotonic
        self._refused: set[str] = set()
        self._retry_at: float | None = None

    def worth_asking(self) -> bool:
        """Yes, unless it is known to be missing; then for one poll an hour."""
        if self._retry_at is None:
            return True
        now = self._monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + EVENTS_RETRY
        return True

    def refused(self, task_id: str) -> None:
        """It is missing for a task that the task endpoint knows."""
        if self._retry_at is not None:
            return
        self._refused.add(task_id)
        if len(self._refused) >= REFUSALS_MAX:
            self._retry_at = self._monotonic() + EVENTS_RETRY
            log.warning(
                "upstream has no events endpoint: polling the task endpoint instead",
                extra={"upstream": self._upstream, "asked_again_in": EVENTS_RETRY},
            )

    def answered(self) -> None:
        """It is there."""
        self._refused.clear()
        if self._retry_at is not None:
            self._retry_at = None
            log.info("upstream has an events endpoint now", extra={"upstream": self._upstream})


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """The events of a listing after a cursor, the cursor after them, and whether that is all of it.

    ``at`` is that cursor taken apart.
    """

    events: tuple[model.Event, ...]
    cursor: str | None
    at: cursors.Cursor | None
    whole: bool


def _take(listing: events.Listing, *, at: cursors.Cursor | None, cursor: str | None) -> _Taken:
    found = events.entries(listing.items)
    start = cursors.resume(at, found)
    stop = min(len(found), start + PAGE_MAX)
    whole = listing.complete and stop == len(found)
    if start == stop:
        return _Taken((), cursor, cursors.parse(cursor), whole)
    after = cursors.advance(at, listing, found, stop)
    return _Taken(tuple(entry.event for entry in found[start:stop]), str(after), after, whole)


class MindVideo:
    """One credential at one MindVideo API. Satisfies ``base.Upstream``.

    ``timeout`` and ``submit_timeout`` bound one request in seconds, connection and body included;
    ``body_max`` a body in bytes after decompression. A stream is read until it ends, names an end,
    is silent for ``stream_quiet`` seconds, or ``stream_window`` seconds have passed (never more
    than half of ``timeout``). ``connections`` is how many may be open at once; no less than the
    polls in flight. ``ca_file`` is trusted beside the system's authorities. ``now`` gives epoch
    seconds, ``monotonic`` seconds from any origin.

    Raises ``errors.ConfigurationError`` for a key or URL that cannot be used.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        api_key: str,
        timeout: float = 30.0,
        submit_timeout: float = 30.0,
        body_max: int = 4 * 2**20,
        connections: int = 64,
        ca_file: Path | None = None,
        proxy: str | None = None,
        stream_quiet: float = 1.0,
        stream_window: float = 10.0,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._root = http.base_url(base_url, setting=f"upstreams.{name}.base_url")
        self._submit_timeout = submit_timeout
        self._limits = streams.Limits(body_max, stream_quiet, min(stream_window, timeout / 2))
        self._readers: dict[str, http.StreamReader] = {
            "text/event-stream": self._read_sse,
            "application/x-ndjson": self._read_lines,
            "application/ndjson": self._read_lines,
            "application/jsonl": self._read_lines,
            "application/x-jsonlines": self._read_lines,
        }
        self._url = functools.lru_cache(maxsize=_URLS_MAX)(self._build_url)
        self._events = _EventsRoute(upstream=name, monotonic=monotonic)
        self._client = http.Client(
            name=name,
            api_key=api_key,
            accept=_ACCEPT_EVENTS,
            timeout=timeout,
            body_max=body_max,
            connections=connections,
            ca_file=ca_file,
            proxy=proxy,
            now=now,
        )

    def __repr__(self) -> str:
        return f"<MindVideo {self._name}>"

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    async def open(self) -> None:
        """Make the connection pool; connects nowhere. Idempotent."""
        await self._client.open()

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        await self._client.aclose()

    def _build_url(self, task_id: str, route: str, query: str | None) -> yarl.URL:
        """The URL of a task. A checked id is one path segment, and yarl takes it as it is."""
        if not ids.is_task_id(task_id):
            raise ValueError("not a task id")
        path = f"{self._root}/tasks/{task_id}"
        if route == _EVENTS:
            path += "/events"
        if query is not None:
            path += f"?cursor={quote(query, safe='')}"
        return yarl.URL(path, encoded=True)

    async def _read_sse(self, response: aiohttp.ClientResponse) -> streams.Streamed:
        return await streams.read_sse(response, self._limits)

    async def _read_lines(self, response: aiohttp.ClientResponse) -> streams.Streamed:
        return await streams.read_lines(response, self._limits)

    async def poll(self, task_id: str, *, cursor: str | None, validator: str | None) -> model.Page:
        """What happened after ``cursor``: see ``base.Upstream``.

        A page from the task endpoint leaves the cursor as it is. Asks twice where the upstream
        has no events or an event stream says nothing. Raises ``ValueError`` for a task id that
        may not reach a URL.
        """
        if not self._events.worth_asking():
            return await self._poll_task(task_id, cursor=cursor, validator=validator)
        at = cursors.parse(cursor)
        held = cursors.parse_validator(validator, cursor=cursor, route=_EVENTS)
        reply = await self._ask_events(task_id, at=at, held=held)
        if reply.status in (400, 404, 410, 422) and cursors.sent(at) is not None:
            # The upstream may have forgotten its own cursor: once more, from the start.
            at = None
            held = None if held is None else held._replace(etag="")
            reply = await self._ask_events(task_id, at=at, held=held)
        if reply.status == 304 and held is not None and held.etag:
            return model.Page(cursor=cursor, validator=validator)
        missing = _no_events(reply)
        if reply.status == 200 and not missing:
            page = self._events_page(reply, at=at, cursor=cursor, held=held, validator=validator)
            self._events.answered()
            if page is not None:
                return page
        elif not missing and (error := self._client.passing(reply)) is not None:
            raise error
        page = await self._poll_task(task_id, cursor=cursor, validator=validator)
        if missing:
            self._events.refused(task_id)
        return page

    def _ask_events(
        self, task_id: str, *, at: cursors.Cursor | None, held: cursors.Validator | None
    ) -> Awaitable[http.Reply]:
        headers: dict[str, str] = {}
        if at is not None and at.last_event_id is not None:
            headers["Last-Event-ID"] = at.last_event_id
        if held is not None and held.etag:
            headers["If-None-Match"] = held.etag
        url = self._url(task_id, _EVENTS, None if at is None else at.query)
        return self._client.get(url, headers=headers or None, readers=self._readers)

    def _events_page(
        self,
        reply: http.Reply,
        *,
        at: cursors.Cursor | None,
        cursor: str | None,
        held: cursors.Validator | None,
        validator: str | None,
    ) -> model.Page | None:
        """The page of a 200 from the events endpoint, or ``None`` where only the task endpoint can tell."""
        if isinstance(reply.streamed, streams.Streamed):
            return self._streamed_page(reply, reply.streamed, at=at, cursor=cursor)
        digest = _digest(reply.body)
        etag = cursors.etag(reply.headers.get("ETag"))
        if held is not None and held.digest == digest:
            return model.Page(cursor=cursor, validator=_renewed(validator, held, etag))
        try:
            listing = events.read_body(decoding.decode(reply.body))
            taken = _take(listing, at=at, cursor=cursor)
            said, snapshot = "", None
            if listing.body is not None:
                said = events.meaning(listing.body)
                if taken.events or held is None or held.meaning != said:
                    snapshot = events.snapshot(listing.body)
        except decoding.Unreadable as error:
            raise self._client.unreadable(reply, str(error)) from None
        if not taken.events and not taken.whole:
            return None
        if cursors.sent(taken.at) != cursors.sent(at):
            etag = ""  # it belongs to the question that was asked, not to the next one
        seen = cursors.Validator(taken.cursor, _EVENTS, digest, said, etag)
        return model.Page(
            events=taken.events,
            snapshot=snapshot,
            cursor=taken.cursor,
            validator=str(seen) if taken.whole else None,
        )

    def _streamed_page(
        self, reply: http.Reply, streamed: streams.Streamed, *, at: cursors.Cursor | None, cursor: str | None
    ) -> model.Page | None:
        try:
            taken = _take(streamed.listing, at=at, cursor=cursor)
        except decoding.Unreadable as error:
            raise self._client.unreadable(reply, str(error)) from None
        if not taken.events and not (streamed.settled and streamed.listing.items):
            return None  # a stream that shows what is new only, or that never got to its end
        return model.Page(events=taken.events, cursor=taken.cursor)

    async def _poll_task(self, task_id: str, *, cursor: str | None, validator: str | None) -> model.Page:
        held = cursors.parse_validator(validator, cursor=cursor, route=_TASK)
        reply = await self._ask_task(task_id, etag="" if held is None else held.etag)
        if reply.status == 304:
            return model.Page(cursor=cursor, validator=validator)
        digest = _digest(reply.body)
        etag = cursors.etag(reply.headers.get("ETag"))
        if held is not None and held.digest == digest:
            return model.Page(cursor=cursor, validator=_renewed(validator, held, etag))
        try:
            body = events.read_task(decoding.decode(reply.body))
            said = events.meaning(body)
            snapshot = None if held is not None and held.meaning == said else events.snapshot(body)
        except decoding.Unreadable as error:
            raise self._client.unreadable(reply, str(error)) from None
        return model.Page(
            snapshot=snapshot,
            authoritative=snapshot is not None,
            cursor=cursor,
            validator=str(cursors.Validator(cursor, _TASK, digest, said, etag)),
        )

    async def fetch(self, task_id: str) -> model.Snapshot:
        """The task body from the task endpoint: see ``base.Upstream``.

        Raises ``ValueError`` for a task id that may not reach a URL.
        """
        reply = await self._ask_task(task_id, etag="")
        try:
            return events.snapshot(events.read_task(decoding.decode(reply.body)))
        except decoding.Unreadable as error:
            raise self._client.unreadable(reply, str(error)) from None

    async def _ask_task(self, task_id: str, *, etag: str) -> http.Reply:
        """A 200, or a 304 where ``etag`` was sent; anything else is raised."""
        headers = _ACCEPT_TASK | {"If-None-Match": etag} if etag else _ACCEPT_TASK
        reply = await self._client.get(self._url(task_id, _TASK, None), headers=headers)
        if reply.status == 200 or (reply.status == 304 and etag):
            return reply
        if reply.status == 404:
            raise errors.TaskNotFound(
                f"{self._name}: knows no task {task_id}",
                reason="not_found",
                status_code=404,
                retry_after=self._client.retry_after(reply),
                problem=self._client.problem(reply),
            )
        raise self._client.passing(reply) or self._client.unexpected(reply)

    async def create(self, request: bytes, *, idempotency_key: str) -> base.Created:
        """Submit ``request`` once: see ``base.Upstream``.

        A success without a usable ``task_id`` raises ``errors.UpstreamRejected`` with reason
        ``bad_answer`` and the success's status code: unlike for every other refusal a task may
        exist and cost, so the key must not be released. Raises ``ValueError`` for a key that is
        not 1–255 visible ASCII characters.
        """
        if _IDEMPOTENCY_KEY.fullmatch(idempotency_key) is None:
            raise ValueError("not an idempotency key")
        reply = await self._client.post(
            yarl.URL(f"{self._root}/tasks", encoded=True),
            body=request,
            headers=_ACCEPT_TASK | {"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
            timeout=self._submit_timeout,
        )
        if reply.status in _CREATED:
            return self._created(reply)
        if (error := self._client.passing(reply)) is not None:
            raise error
        if not 400 <= reply.status < 500:
            raise self._client.unexpected(reply)
        text = f"refused the request ({reply.status})"
        if reply.status == 409:
            text = "knows this idempotency key with different input (409)"
        raise errors.UpstreamRejected(
            f"{self._name}: {text}",
            reason=_REFUSALS.get(reply.status, "refused"),
            status_code=reply.status,
            retry_after=self._client.retry_after(reply),
            problem=self._client.problem(reply),
        )

    def _created(self, reply: http.Reply) -> base.Created:
        try:
            value = decoding.decode(reply.body)
            body = decoding.clean(value)
            task_id = events.task_id(value)
            snapshot = events.snapshot(value)
        except decoding.Unreadable as error:
            raise self._client.unreadable(reply, str(error)) from None
        if not isinstance(body, dict):
            raise self._client.unreadable(reply, "not an object")
        if task_id is None or not ids.is_task_id(task_id):
            raise errors.UpstreamRejected(
                f"{self._name}: answered {reply.status} without a task_id that can be asked for: a task "
                "may have been created and charged, look for it in the dashboard",
                reason=base.BAD_ANSWER,
                status_code=reply.status,
                problem=body,
            )
        replayed = reply.status == 200 or reply.headers.get("Idempotent-Replayed", "").lower() == "true"
        return base.Created(
            task_id=task_id,
            snapshot=snapshot,
            body=body,
            status_code=reply.status,
            replayed=replayed,
        )


def _no_events(reply: http.Reply) -> bool:
    """Whether the answer says that there is no events endpoint, whatever became of the task.

    A web page where events should be is a catch-all route.
    """
    status = reply.status
    if status == 200:
        return reply.media_type in _WEB_PAGES
    return status == 501 or (400 <= status < 500 and status not in _ABOUT_THE_CALLER)


def _renewed(validator: str | None, held: cursors.Validator, etag: str) -> str | None:
    return validator if held.etag == etag else str(held._replace(etag=etag))


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
