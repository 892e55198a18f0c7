"""The routes of the sandbox: parse, ask ``tasks.py``, write with ``wire.py``.

Owns the HTTP side of the stand-in: keys, limits, content types, the switch for ``/events``. It
starts no background work and keeps no state of its own. Run it with ``server.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import math
import pathlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Literal, get_args

import aiohttp
import pydantic_core
from aiohttp import web

from relay.catalogue import loading
from relay.domain import errors
from relay.sandbox import creates, description, injection, problems, tasks, wire

Events = Literal["json", "sse", "ndjson", "absent"]
"""What ``/events`` speaks; the documentation does not say."""

DEFAULT_KEY: Final = "mv_test_sandbox"

BODY_MAX: Final = 4 * 1024 * 1024
"""Bytes of a request body: compact data URIs fit, media do not."""

READ_SECONDS: Final = 30.0
"""How long a client may take to send a body."""

HEARTBEAT_SECONDS: Final = 15.0
"""Between comments on a silent stream; real seconds, whatever the speed."""

REFUSAL_RETRY_AFTER: Final = "1"
"""Seconds that a 429 on demand asks for; real seconds, whatever the speed."""

TASKS_MAX: Final = 100_000
"""Tasks kept, at about 1 kB each."""

_TICK_SECONDS: Final = 0.001
"""Shortest wait of a stream: rounding must not make it spin."""

_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
BOOK: Final = web.AppKey("book", tasks.Tasks)
"""The tasks of an application, for tests that count them."""

_CONTENT_TYPES: Final = {".mp4": "video/mp4", ".png": "image/png"}


def steady_clock() -> Callable[[], float]:
    """A clock of epoch seconds that never goes back: what ended must stay ended."""
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()


def create_app(
    *,
    keys: Collection[str] = (DEFAULT_KEY,),
    disabled_keys: Collection[str] = (),
    speed: float = 1.0,
    events: Events = "json",
    seed: int | None = None,
    faults: Collection[str] = (),
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    tasks_max: int = TASKS_MAX,
) -> web.Application:
    """The sandbox as an application.

    ``keys`` are the API keys that it knows; tasks belong to the key that made them.
    ``disabled_keys`` are known and refused with 403, even where they are in ``keys`` too. ``speed``
    divides all durations. ``seed`` repeats ids, durations and faults; ``None`` makes new ones at
    each start, so that no task is mistaken for one of an earlier start. ``faults`` are words of
    ``injection.py`` for all tasks (``"429"``) or a share of them (``"429:0.1"``). ``clock`` (epoch
    seconds, must not go back) and ``sleep`` belong together; only streams sleep. Raises
    ``errors.ConfigurationError`` naming the option that cannot be used.
    """
    for option, given in (("--key", keys), ("--disabled-key", disabled_keys)):
        if not all(_KEY.fullmatch(key) for key in given):
            raise errors.ConfigurationError(
                f"{option}: give 1 to 200 visible ASCII characters, without spaces"
            )
    if not keys:
        raise errors.ConfigurationError("--key: give one at least")
    if not (math.isfinite(speed) and speed > 0):
        raise errors.ConfigurationError("--speed: give a finite number above 0, such as 100")
    if events not in get_args(Events):
        raise errors.ConfigurationError(f"--events: give one of {', '.join(get_args(Events))}")
    clock = clock or steady_clock()
    seed_text = secrets.token_hex(16) if seed is None else str(seed)
    book = tasks.Tasks(seed=seed_text, speed=speed, clock=clock, tasks_max=tasks_max)
    sandbox = _Sandbox(
        owners=frozenset(_digest(key) for key in keys),
        disabled=frozenset(_digest(key) for key in disabled_keys),
        book=book,
        attempts=injection.Attempts(seed=seed_text, rates=injection.rates(faults)),
        events=events,
        clock=clock,
        sleep=sleep,
    )
    app = web.Application(middlewares=[problems.middleware], client_max_size=BODY_MAX)
    app[BOOK] = book
    app.router.add_post("/api/v1/tasks", sandbox.create)
    app.router.add_get("/api/v1/tasks/{task_id}", sandbox.task, allow_head=False)
    app.router.add_get("/api/v1/tasks/{task_id}/events", sandbox.events, allow_head=False)
    app.router.add_get("/outputs/{task_id}/{name}", sandbox.output)
    description.add(app, catalogue=sandbox.models, events=events)
    return app


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _origin(request: web.Request) -> str:
    """The address that the client reached us by, so that links work behind a port mapping too."""
    host = request.headers.get("Host")
    if host is None:  # HTTP/1.0; aiohttp would ask the resolver for this machine's name
        address = request.get_extra_info("sockname")
        host = f"{address[0]}:{address[1]}"
    return f"{request.scheme}://{host}"


class _Sandbox:
    """The handlers, with what they share."""

    def __init__(
        self,
        *,
        owners: frozenset[bytes],
        disabled: frozenset[bytes],
        book: tasks.Tasks,
        attempts: injection.Attempts,
        events: Events,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._owners = owners
        self._disabled = disabled
        self._book = book
        self._attempts = attempts
        self._events = events
        self._clock = clock
        self._sleep = sleep
        self.models = loading.load()
        media = importlib.resources.files(__package__).joinpath("media")
        self._samples = {suffix: pathlib.Path(str(media / f"sample{suffix}")) for suffix in _CONTENT_TYPES}

    async def create(self, request: web.Request) -> web.Response:
        """``POST /api/v1/tasks``: 201, or 200 with the first answer for a repeated key."""
        owner = self._owner(request)
        key = creates.idempotency_key(request.headers.get("Idempotency-Key"))
        wanted = creates.read(await _read(request), self.models)
        made = None if key is None else self._book.made(owner=owner, key=key)
        if made is not None:
            if made.fingerprint != wanted.fingerprint:
                raise problems.Problem(409, "This Idempotency-Key was used with different input.")
            headers = wanted.headers | {"Idempotent-Replayed": "true"}
            return web.Response(body=made.answer, content_type="application/json", headers=headers)
        identity = (owner, wanted.fingerprint if key is None else key)
        attempt = self._attempts.of(identity, wanted.task_input)
        if attempt.refusals and attempt.refusals[0] is not injection.Word.DROP_REPLY:
            raise _refused(attempt.refusals.pop(0))
        try:
            task = self._book.create(
                owner=owner, model=wanted.model, task_input=wanted.task_input, words=attempt.words
            )
        except tasks.Full:
            detail = "As many tasks as the sandbox keeps are running; wait for some to end."
            raise problems.Problem(503, detail, headers={"Retry-After": "5"}) from None
        answer = pydantic_core.to_json(wire.created(task))
        if key is not None:
            self._book.remember(task, key=key, made=tasks.Made(fingerprint=wanted.fingerprint, answer=answer))
        drop = bool(attempt.refusals)
        if drop and key is None:
            attempt.refusals.clear()  # the same payload again makes a second task, and is answered
        else:
            self._attempts.done(identity)
        if drop and request.transport is not None:
            request.transport.close()
        return web.Response(status=201, body=answer, content_type="application/json", headers=wanted.headers)

    async def task(self, request: web.Request) -> web.Response:
        """``GET /api/v1/tasks/{id}``: the documented task body."""
        task = self._own_task(request)
        shown = wire.body(task, self._book.moment(task), origin=_origin(request))
        return web.Response(body=pydantic_core.to_json(shown), content_type="application/json")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/tasks/{id}/events`` in the shape that the switch says."""
        task = self._own_task(request)
        if self._events == "absent":
            raise problems.Problem(404, "This sandbox has no events; it was started so.")
        moment = self._book.moment(task)
        after = self._position(request, task, moment.reached)
        if self._events == "sse":
            return await self._stream(request, task, after)
        etag = wire.validator(task, moment, after=after)
        if wire.matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers={"ETag": etag})
        write, content_type = (
            (wire.page, "application/json")
            if self._events == "json"
            else (wire.ndjson, "application/x-ndjson")
        )
        body = write(task, moment, after=after, origin=_origin(request))
        return web.Response(body=body, content_type=content_type, headers={"ETag": etag})

    async def output(self, request: web.Request) -> web.StreamResponse:
        """``GET /outputs/{id}/{n}.mp4``: the sample, to anyone who has the link; ranges work."""
        task = self._book.find(request.match_info["task_id"])
        name = request.match_info["name"]
        if task is None or not self._book.moment(task).has_output or name not in wire.output_names(task):
            raise problems.Problem(404, "There is no such output; its task may be unknown or not succeeded.")
        if not self._book.links_work(task):
            raise problems.Problem(410, "The link to this output has expired.")
        suffix = pathlib.PurePath(name).suffix
        return web.FileResponse(self._samples[suffix], headers={"Content-Type": _CONTENT_TYPES[suffix]})

    def _owner(self, request: web.Request) -> bytes:
        """The digest of the caller's key. Raises 401, and 403 for a disabled key."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        owner = _digest(key.strip())
        bearer = scheme.lower() == "bearer"
        if bearer and owner in self._disabled:
            raise problems.Problem(403, "This key is disabled; enable it or use another.")
        if not bearer or owner not in self._owners:
            raise problems.Problem(
                401,
                "Send Authorization: Bearer with a key that the sandbox knows.",
                headers={"WWW-Authenticate": 'Bearer realm="sandbox"'},
            )
        return owner

    def _own_task(self, request: web.Request) -> tasks.Task:
        """The task named in the path, if the caller's key made it. Raises 401, 403 and 404, and what
        the task's words ask for."""
        owner = self._owner(request)
        task = self._book.find(request.match_info["task_id"])
        if task is None or task.owner != owner:
            raise problems.Problem(404, "No task of this key has this id.")
        refusal = self._book.refusal(task)
        if refusal is not None:
            raise _refused(refusal)
        return task

    def _position(self, request: web.Request, task: tasks.Task, reached: int) -> int:
        """How many events the client has seen. Raises 400 for a cursor that was never given out.

        ``Last-Event-ID`` goes before ``cursor``, because a reconnecting client repeats its URL. A
        strange one starts from the beginning: browsers cannot be told to forget theirs.
        """
        last_seen = request.headers.get("Last-Event-ID")
        if last_seen is not None and self._events == "sse":
            return wire.position(task, last_seen, reached=reached) or 0
        cursor = request.query.get("cursor")
        if cursor is None:
            return 0
        position = wire.position(task, cursor, reached=reached)
        if position is None:
            raise problems.Problem(400, "The cursor is none of this task; leave it out to start over.")
        return position

    async def _stream(self, request: web.Request, task: tasks.Task, after: int) -> web.StreamResponse:
        """Server-sent events until the task ends or the client goes; 204 where all was seen."""
        moment = self._book.moment(task)
        if task.plan.ended(moment.reached) and after == len(wire.listed(task, moment.reached)):
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        origin = _origin(request)
        try:
            while True:
                moment = self._book.moment(task)
                listed = len(wire.listed(task, moment.reached))
                if listed > after:
                    await response.write(wire.sse(task, moment, after=after, origin=origin))
                    after = listed
                if task.plan.ended(moment.reached):
                    break
                due_in = max(task.plan.next_at(moment.reached) - self._clock(), _TICK_SECONDS)
                await self._sleep(min(due_in, HEARTBEAT_SECONDS))
                if due_in > HEARTBEAT_SECONDS:
                    await response.write(b": the task goes on\n\n")
            await response.write_eof()
        except ConnectionResetError:
            pass  # the client went, as clients of streams do
        return response


def _refused(word: injection.Word) -> problems.Problem:
    """The refusal that a word asks for."""
    if word is injection.Word.RATE_LIMITED:
        detail = "The sandbox was asked to refuse this request once; send it again."
        return problems.Problem(429, detail, headers={"Retry-After": REFUSAL_RETRY_AFTER})
    return problems.Problem(503, "The sandbox was asked to be unavailable once; send the request again.")


async def _read(request: web.Request) -> bytes:
    """The body. Raises 408, 413 and 415."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise problems.Problem(415, "Send the body without Content-Encoding.")
    if request.content_type != "application/json":
        raise problems.Problem(415, "Send the body with Content-Type: application/json.")
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError):
        raise problems.Problem(400, "The body broke off or was badly framed.") from None
    except TimeoutError:
        raise problems.Problem(408, "The body did not arrive in time.") from None
