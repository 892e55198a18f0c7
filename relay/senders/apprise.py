"""Sends chat messages and mail through Apprise, in worker processes that can be killed.

Apprise blocks, and a peer that trickles holds it for good: so each send runs in a process of a small
pool, and one that outlives its limit is killed and replaced. Admission is bounded outside (``capacity``):
the backlog is the outbox. The daemon itself never imports Apprise; what is sent to a worker is in
``apprise_jobs.py``, what it does there in ``apprise_worker.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.context
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import process
from typing import Final

import pebble

from relay.domain import errors, model
from relay.senders import apprise_jobs, base, verdicts, words

SEATS: Final = 8
"""Worker processes; each costs about 8 MB and is used by one send at a time."""

CHAT_TIMEOUT: Final = 10.0
"""Seconds for one chat message."""

MAIL_TIMEOUT: Final = 30.0
"""Seconds for one mail: SMTP takes several round trips, and greylisting servers are slow on purpose."""

START_TIMEOUT: Final = 20.0
"""Seconds for starting the pool; it takes about one."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds for ending all workers; it takes about 0.2."""

_PRELOADED: Final = ["relay.senders.apprise_worker", "relay.senders.apprise"]

Initializer = Callable[[apprise_jobs.Surroundings], None]


_hiding_main: Final = threading.Lock()


class _Process(multiprocessing.context.ForkServerProcess):
    """A worker, which is started without the daemon's main module and ended without being asked."""

    def start(self) -> None:
        # Multiprocessing has each child import the parent's main module again: in a worker that is
        # the whole command line's code, or the script of whoever embeds relay. It has no use for it.
        with _hiding_main:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main

    def terminate(self) -> None:
        # Workers ignore SIGTERM, so asking politely first would cost three seconds each.
        self.kill()


class _Context(multiprocessing.context.ForkServerContext):
    Process = _Process


class ApprisePool:
    """Worker processes for ``AppriseSender``. They are started when the first message is sent.

    ``initializer`` is called once in every worker, with ``surroundings``.
    """

    def __init__(
        self,
        surroundings: apprise_jobs.Surroundings,
        *,
        seats: int = SEATS,
        initializer: Initializer = apprise_jobs.prepare,
    ) -> None:
        self.capacity = base.Capacity(name="apprise", seats=seats, seats_hanging=max(1, seats // 2))
        self._surroundings = surroundings
        self._initializer = initializer
        self._pool: pebble.ProcessPool | None = None
        self._started = False
        self._closed = False
        self._changing = asyncio.Lock()

    async def send(self, job: apprise_jobs.Job, *, who: str) -> apprise_jobs.Report:
        """Have ``job`` sent by a worker, which is killed if it takes longer than the job's limit.

        Raises ``errors.SendError`` when no report came back. Cancelling kills the worker.
        """
        pool = await self._running(who)
        try:
            future = pool.schedule(apprise_jobs.send, args=(job,))
        except RuntimeError:
            raise _no_worker(who) from None
        answer = asyncio.wrap_future(future)
        try:
            await asyncio.wait((answer,), timeout=job.limit)
            if not answer.done():
                # Queued is not sent. (A worker that takes it now is killed within a tenth of a second.)
                raise verdicts.fault(apprise_jobs.Fault.TIMEOUT, who) if future.running() else _no_worker(who)
            return answer.result()
        except (pebble.ProcessExpired, process.BrokenProcessPool):
            # The system ended the worker (memory), or its own alarm did, or all of them are gone.
            raise verdicts.fault(apprise_jobs.Fault.WORKER_DIED, who) from None
        finally:
            future.cancel()  # type: ignore[no-untyped-call]

    async def _running(self, who: str) -> pebble.ProcessPool:
        async with self._changing:
            if self._closed:
                raise _no_worker(who)
            if self._pool is not None and self._started and not self._pool.active:
                # A pool breaks when an idle worker is killed from outside; its successor is a new one.
                broken, self._pool = self._pool, None
                await asyncio.to_thread(_stop, broken)
            if self._pool is None:
                self._pool, self._started = self._new(), False
            if not self._started:
                try:
                    async with asyncio.timeout(START_TIMEOUT):
                        await asyncio.to_thread(_start, self._pool)
                except TimeoutError:
                    raise _no_worker(who) from None
                except (OSError, process.BrokenProcessPool):
                    # No memory, no processes, no /dev/shm: tried anew with the next message.
                    self._pool = None
                    raise _no_worker(who) from None
                self._started = True
            return self._pool

    def _new(self) -> pebble.ProcessPool:
        context = _Context()
        context.set_forkserver_preload(_PRELOADED)
        return pebble.ProcessPool(
            max_workers=self.capacity.seats,
            initializer=self._initializer,
            initargs=(self._surroundings,),
            context=context,
        )

    async def aclose(self) -> None:
        """End every worker, in bounded time, whatever it is doing. Idempotent.

        The process that workers were forked from ends with the daemon.
        """
        async with self._changing:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await asyncio.to_thread(_stop, pool)


class AppriseSender:
    """Tells one chat or mail destination. ``scheme`` is the service's; ``url`` is never shown."""

    def __init__(
        self,
        name: str,
        *,
        url: str,
        scheme: str,
        pool: ApprisePool,
        timeout: float = CHAT_TIMEOUT,
        concurrency: int = 1,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._url = url
        self._scheme = scheme
        self._pool = pool
        self._timeout = timeout
        self._concurrency = concurrency
        self._now = now

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._name

    @property
    def format(self) -> model.Format:
        """Title and text."""
        return model.Format.CHAT

    @property
    def address(self) -> str:
        """The scheme alone: for many services the place of the host holds a secret."""
        return f"{self._scheme}://"

    @property
    def time_limit(self) -> float:
        """Seconds: the send, and before the very first one the start of the workers."""
        return self._timeout + START_TIMEOUT

    @property
    def concurrency(self) -> int:
        """One at a time, so that a channel reads its messages in order."""
        return self._concurrency

    @property
    def capacity(self) -> base.Capacity:
        """The workers."""
        return self._pool.capacity

    async def send(self, outgoing: base.Outgoing) -> base.Accepted:
        """Send it once, cut to the channel, with mentions made harmless."""
        title, text = _message(outgoing.body)
        job = apprise_jobs.Job(url=self._url, title=title, text=text, limit=self._timeout)
        report = self._without_secrets(await self._pool.send(job, who=self._name))
        failure = verdicts.chat(report, who=self._name, now=self._now())
        if failure is not None:
            raise failure
        return base.Accepted(status_code=report.status_code)

    def _without_secrets(self, report: apprise_jobs.Report) -> apprise_jobs.Report:
        """A word that only repeats a part of the URL is not told, nor what a private peer writes."""
        word = report.word
        if word is None or word in words.KNOWN:
            return report
        if report.private or word in self._url.lower():
            return dataclasses.replace(report, word="withheld")
        return report


def _message(body: bytes) -> tuple[str, str]:
    """Title and text of a chat body: UTF-8 JSON ``{"title": …, "text": …}``, both plain text."""
    message = json.loads(body)
    return str(message["title"]), str(message["text"])


def _no_worker(who: str) -> errors.SendError:
    return verdicts.fault(apprise_jobs.Fault.NO_WORKER, who)


def _start(pool: pebble.ProcessPool) -> None:
    """Blocks while the workers are started; asking for ``active`` is what starts a pool."""
    _ = pool.active


def _stop(pool: pebble.ProcessPool) -> None:
    """Blocks until the workers are killed and the pool's threads have ended."""
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()
