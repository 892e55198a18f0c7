"""Asks upstreams about tasks, folds what they say, and records what changed.

One ``Poller`` per upstream and credential: a heap of due times in memory, bounded concurrency, one
budget. A look without news writes nothing. What an observation means is ``domain/lifecycle.py``'s;
when to look again is ``domain/schedule.py``'s. An end that is not certain is settled with the task
endpoint before it is told, and the cursor does not pass it until then.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

from relay import metrics
from relay.domain import errors, lifecycle, model, schedule
from relay.engine import clock as clocks
from relay.engine import news, recording, supervisor
from relay.upstreams import base

log = structlog.get_logger(__name__)

PAUSE_PROBE: Final = 60.0
"""Seconds between two looks with a credential that the upstream refuses."""

HEAP_SLACK: Final = 1000
"""Forgotten tasks that may lie in the heap until they are due, beside as many as are watched."""

RATE_LIMIT_REST: Final = 1.0
"""Seconds for which a credential is not used after a 429 that names no time: limits are per credential."""

RECORDING_MAX: Final = 64
"""Looks whose news wait for a commit, beside those that ask: as many share one, and a page may be large."""

Notice = Callable[[str, str, str], Awaitable[None]]
"""Tell the operator: kind, key, text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One upstream's settings, seconds."""

    pace: schedule.Pace
    requests_per_second: float
    concurrency: int
    confirm_timeout: float


@dataclass(frozen=True, slots=True)
class Polled:
    """When a task was and will be asked about, epoch seconds."""

    last_polled_at: float | None
    next_poll_at: float | None


@dataclass(slots=True, eq=False)
class _Entry:
    """What memory knows of one task. ``due`` and ``unconfirmed_since`` are monotonic seconds."""

    watch: model.Watch
    due: float
    cursor: str | None
    ticket: int = 0
    validator: str | None = None
    failures: int = 0
    misses: schedule.Misses = field(default_factory=schedule.Misses)
    unconfirmed: model.Status | None = None
    unconfirmed_since: float = 0.0
    last_polled_at: float | None = None
    last_error: str | None = None
    in_flight: bool = False
    forgotten: bool = False


class Poller:
    """A supervised loop over the tasks of one upstream."""

    def __init__(
        self,
        upstream: base.Upstream,
        options: Options,
        *,
        recorder: recording.Recorder,
        supervisor: supervisor.Supervisor,
        clock: clocks.Clock,
        rng: random.Random,
        notice: Notice,
    ) -> None:
        self.name = f"poller {upstream.name}"
        self.wake = asyncio.Event()
        self._upstream = upstream
        self._options = options
        self._recorder = recorder
        self._supervisor = supervisor
        self._clock = clock
        self._rng = rng
        self._notice = notice
        self._log = log.bind(upstream=upstream.name)  # an unbound one is bound anew for every line
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._tickets = itertools.count(1)
        self._in_flight = 0
        self._recording = 0
        self._wait = math.inf
        self._draining = False
        self._paused_reason: str | None = None
        self._pause_key: str | None = None
        self._paused_until = float("-inf")
        self._rested_until = float("-inf")
        self._worked_at = float("-inf")
        self._unknown_told: set[str] = set()
        # A whole second's worth at once: smooth enough for a peer, and no timer per request.
        self._budget = schedule.Budget(
            options.requests_per_second, burst=max(1.0, options.requests_per_second), now=clock.monotonic()
        )
        self._no_news = metrics.POLLS.labels(upstream.name, "no_news")
        self._news = metrics.POLLS.labels(upstream.name, "news")
        self._watched = metrics.TASKS_WATCHED.labels(upstream.name)

    # -- what is watched ------------------------------------------------------------------------

    def watch(self, watch: model.Watch, *, delay: float | None = None) -> None:
        """Watch this task, or take note of its newer version. Finished ones are forgotten.

        The first look at it is due in ``delay`` seconds. ``None`` is for a task that somebody has
        just asked for: it goes ahead of all that a short budget keeps waiting.
        """
        entry = self._entries.get(watch.task.id)
        if entry is not None and entry.watch.task.version > watch.task.version:
            return
        if watch.task.verdict.final or not watch.registrations:
            self.forget(watch.task.id)
        elif entry is None:
            due = float("-inf") if delay is None else self._clock.monotonic() + delay
            entry = _Entry(watch=watch, due=due, cursor=watch.task.cursor)
            self._entries[watch.task.id] = entry
            self._watched.set(len(self._entries))
            self._push(entry)
            self.wake.set()
        else:
            entry.watch = watch

    def forget(self, task: str) -> None:
        """Stop asking about relay's task id ``task``."""
        entry = self._entries.get(task)
        if entry is not None:
            self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        """Forget this very entry: the task may have been registered anew since its look began."""
        entry.forgotten = True
        if self._entries.get(entry.watch.task.id) is entry:
            del self._entries[entry.watch.task.id]
            self._watched.set(len(self._entries))

    def polled(self, task: str) -> Polled | None:
        """When it was and will be asked about; ``None`` when it is not watched."""
        entry = self._entries.get(task)
        if entry is None:
            return None
        ahead = max(0.0, entry.due - self._clock.monotonic())
        return Polled(entry.last_polled_at, None if entry.in_flight else self._clock.now() + ahead)

    @property
    def paused(self) -> str | None:
        """Why nothing is asked; ``None`` while it is."""
        return self._paused_reason

    def drain(self) -> None:
        """Start no more looks. Those in flight go on."""
        self._draining = True

    # -- the loop -------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """Start a worker for every look that is due and affordable."""
        while (entry := self._take()) is not None:
            self._supervisor.spawn(self._work(entry), name="poll")
        return self._wait if self._wait < math.inf else None

    def _push(self, entry: _Entry) -> None:
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (entry.due, entry.ticket, entry))
        if len(self._heap) > 2 * len(self._entries) + HEAP_SLACK:
            self._heap = [waiting for waiting in self._heap if not waiting[2].forgotten]
            heapq.heapify(self._heap)

    def _take(self) -> _Entry | None:
        """The task to look at now, or ``None``: then ``_wait`` is for how long, infinite until woken."""
        self._wait = math.inf
        now = self._clock.monotonic()
        while self._heap and not self._draining:
            due, ticket, entry = self._heap[0]
            if entry.forgotten or entry.ticket != ticket:
                heapq.heappop(self._heap)
                continue
            self._wait = due - now if due > now else self._held_back(now)
            if self._wait > 0.0:
                return None
            heapq.heappop(self._heap)
            entry.in_flight = True
            self._in_flight += 1
            return entry
        return None

    def _held_back(self, now: float) -> float:
        """Seconds for which nothing may be asked: 0.0 when it may (and one token is taken)."""
        if self._paused_reason is not None:
            if self._in_flight:
                return math.inf
            if now < self._paused_until:
                return self._paused_until - now
        if now < self._rested_until:
            return self._rested_until - now
        if self._in_flight >= self._options.concurrency or self._recording >= RECORDING_MAX:
            return math.inf
        return self._budget.take(now)

    async def _work(self, first: _Entry) -> None:
        """Look at one task after the other while one is due: cheaper than a task of asyncio's for each."""
        entry: _Entry | None = first
        try:
            while entry is not None:
                await self._look(entry)
                entry = self._take()
        finally:
            self.wake.set()  # for the time until the next is due

    async def _look(self, entry: _Entry) -> None:
        """One look at one task, whatever comes of it, and when to look again."""
        delay: float | None = None
        task_id, done = entry.watch.task.task_id, False
        try:
            delay = await self._poll_one(entry)
        except errors.StoreError as exc:
            log.error("news not recorded yet", upstream=self._upstream.name, task=task_id, error=str(exc))
        except Exception:
            # A fault of ours with one task must not stop the others.
            log.exception("look failed unexpectedly", upstream=self._upstream.name, task=task_id)
        else:
            done = True
        finally:
            if not done:
                # Nothing is lost: the cursor was not moved, the same news comes again.
                entry.failures += 1
                entry.validator = None
            entry.in_flight = False
            self._in_flight -= 1
            if not entry.forgotten:
                now = self._clock.now()
                if delay is None:
                    delay = schedule.poll_delay(
                        entry.watch.task, self._options.pace, now=now, failures=entry.failures, rng=self._rng
                    )
                entry.due = self._clock.monotonic() + delay
                self._push(entry)

    async def _poll_one(self, entry: _Entry) -> float | None:
        """Ask once. Seconds until the next look, ``None`` for the usual pace."""
        task_id = entry.watch.task.task_id
        try:
            page = await self._upstream.poll(task_id, cursor=entry.cursor, validator=entry.validator)
        except errors.TaskNotFound as exc:
            return await self._missed(entry, exc)
        except errors.UpstreamUnauthorized as exc:
            return await self._refused(entry, exc)
        except errors.UpstreamError as exc:
            return await self._failed(entry, exc)
        self._worked_at = entry.last_polled_at = now = self._clock.now()
        if self._paused_reason is not None:
            self._resume()
        entry.failures = 0
        entry.last_error = None
        if entry.misses.count and (entry.unconfirmed is None or page.authoritative):
            # While an end waits for its confirmation only the task endpoint can take back its 404s.
            entry.misses = schedule.Misses()
        entry.validator = page.validator
        late = schedule.stalled(entry.watch.task, self._options.pace, now=now)
        if not page.news and entry.unconfirmed is None and not late:
            self._no_news.inc()
            if page.cursor is not None:
                entry.cursor = page.cursor
            return None
        self._news.inc()
        return await self._absorb(entry, page)

    # -- news -----------------------------------------------------------------------------------

    async def _absorb(self, entry: _Entry, page: model.Page) -> float | None:
        """Fold, settle, record; again from the stored state whenever another writer was first."""
        watch: model.Watch | None = entry.watch
        while watch is not None and not watch.task.verdict.final and not entry.forgotten:
            now = self._clock.now()
            fold = lifecycle.fold(watch.task, page, now=now)
            self._report_unknown(fold.unknown_statuses)
            pending = fold.unconfirmed or entry.unconfirmed
            if pending is not None and not fold.task.verdict.final:
                try:
                    fold = await self._settle(entry, fold, pending, page)
                except errors.TaskNotFound as exc:
                    return await self._missed(entry, exc)
                except errors.UpstreamError as exc:
                    await self._store(entry, watch, fold, page, hold_cursor=True)
                    if isinstance(exc, errors.UpstreamUnauthorized):
                        return await self._refused(entry, exc)
                    return await self._failed(entry, exc)
            if schedule.stalled(fold.task, self._options.pace, now=now):
                fold = news.combined(fold, lifecycle.stall(fold.task, now=now))
            held = fold.unconfirmed is not None
            if await self._store(entry, watch, fold, page, hold_cursor=held):
                return schedule.CONFIRM_INTERVAL if held else None
            watch = await self._recorder.reload(watch.task)
        self._drop(entry)
        return None

    async def _settle(
        self, entry: _Entry, fold: lifecycle.Fold, end: model.Status, page: model.Page
    ) -> lifecycle.Fold:
        """Decide about an end that is not certain by what the task endpoint says, or just said."""
        now = self._clock.monotonic()
        if entry.unconfirmed is None:
            entry.unconfirmed, entry.unconfirmed_since = end, now
        if page.authoritative and page.snapshot is not None:
            authority = page.snapshot
        else:
            self._budget.spend()
            authority = await self._upstream.fetch(entry.watch.task.task_id)
            entry.misses = schedule.Misses()
        since = self._clock.monotonic() - entry.unconfirmed_since
        out_of_time = since >= self._options.confirm_timeout
        settled = lifecycle.settle(fold.task, end, authority, now=self._clock.now(), out_of_time=out_of_time)
        if settled.unconfirmed is None and authority.status is not settled.task.status:
            log.warning(
                "end believed without confirmation",
                upstream=self._upstream.name,
                task=entry.watch.task.task_id,
                status=settled.task.status.value,
                endpoint_says=authority.raw_status,
                waited=round(since, 1),
            )
        return news.combined(fold, settled)

    async def _store(
        self,
        entry: _Entry,
        watch: model.Watch,
        fold: lifecycle.Fold,
        page: model.Page,
        *,
        hold_cursor: bool,
    ) -> bool:
        """Record what changed; whether it was stored (or there was nothing to store)."""
        cursor = watch.task.cursor if hold_cursor or page.cursor is None else page.cursor
        if hold_cursor:
            entry.validator = None  # what was not stored must come again
        events = news.events_of(page, fold.changes, watch.task.task_id, now=self._clock.now())
        unchanged = fold.task == watch.task  # folding leaves cursor and version alone
        if unchanged and (not events or (hold_cursor and entry.unconfirmed is not None and not fold.changes)):
            entry.cursor = cursor
            return True
        stored = await self._recorded(
            self._recorder.changed(watch, fold.task, fold.changes, events, cursor=cursor)
        )
        if stored is None:
            return False
        for change in fold.changes:
            metrics.CHANGES.labels(self._upstream.name, change.value).inc()
            self._log.info(
                "status change",
                task=fold.task.task_id,
                change=change.value,
                verdict=stored.task.verdict.value,
            )
        entry.watch = stored
        entry.cursor = cursor
        if stored.task.verdict.final:
            self.forget(stored.task.id)
        return True

    async def _recorded(self, write: Awaitable[model.Watch | None]) -> model.Watch | None:
        """Wait for a commit. Others are asked about meanwhile: their news then share the next one."""
        self._in_flight -= 1
        self._recording += 1
        if (waiting := self._take()) is not None:
            self._supervisor.spawn(self._work(waiting), name="poll")
        else:
            self.wake.set()
        try:
            return await write
        finally:
            self._recording -= 1
            self._in_flight += 1

    def _report_unknown(self, raw_statuses: Sequence[str]) -> None:
        for raw in raw_statuses:
            if raw not in self._unknown_told and len(self._unknown_told) < 100:
                self._unknown_told.add(raw)
                log.warning(
                    "unknown status, taken for processing", upstream=self._upstream.name, status=raw[:80]
                )

    # -- what goes wrong ------------------------------------------------------------------------

    async def _failed(self, entry: _Entry, failure: errors.UpstreamError) -> float | None:
        if failure.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._rested_until = self._clock.monotonic() + (failure.retry_after or RATE_LIMIT_REST)
        metrics.POLLS.labels(self._upstream.name, failure.reason).inc()
        entry.failures += 1
        if entry.last_error != failure.reason:
            entry.last_error = failure.reason
            log.warning(
                "poll failed",
                upstream=self._upstream.name,
                task=entry.watch.task.task_id,
                reason=failure.reason,
                status_code=failure.status_code,
                error=str(failure),
            )
        # The deadline holds whether or not the upstream answers.
        if schedule.stalled(entry.watch.task, self._options.pace, now=self._clock.now()):
            await self._conclude(entry, lifecycle.stall)
        if failure.retry_after is None:
            return None
        usual = schedule.poll_delay(
            entry.watch.task,
            self._options.pace,
            now=self._clock.now(),
            failures=entry.failures,
            rng=self._rng,
        )
        return max(usual, failure.retry_after)

    async def _missed(self, entry: _Entry, failure: errors.TaskNotFound) -> float | None:
        """404 from the task endpoint: lost after enough of them, far enough apart."""
        now = self._clock.monotonic()
        entry.misses = entry.misses.another(now)
        if not entry.misses.lost(now):
            await self._failed(entry, failure)
            return schedule.LOST_AFTER_SECONDS / schedule.LOST_AFTER_MISSES * (1 + self._rng.uniform(0, 0.1))
        if entry.unconfirmed is not None:
            # Its end was seen, and the task is gone since: that end is all there will ever be.
            end = model.Snapshot(status=entry.unconfirmed)
            await self._conclude(entry, lambda task, *, now: news.ended(task, end, now=now))
        else:
            await self._conclude(entry, lifecycle.lose)
        return None

    async def _conclude(self, entry: _Entry, decide: Callable[..., lifecycle.Fold]) -> None:
        """Record a decision of relay's own (stalled, lost) on whatever state is stored."""
        watch: model.Watch | None = entry.watch
        while watch is not None:
            fold = decide(watch.task, now=self._clock.now())
            if await self._store(entry, watch, fold, model.Page(), hold_cursor=True):
                return
            watch = await self._recorder.reload(watch.task)
        self._drop(entry)

    async def _refused(self, entry: _Entry, failure: errors.UpstreamUnauthorized) -> float | None:
        """401 or 403: the credential is paused, with one notice, and probed now and then.

        A 403 while the same credential works for other tasks is about this one: somebody else's.
        """
        if (
            failure.status_code == 403
            and self._paused_reason is None
            and self._clock.now() - self._worked_at < 2.0 * self._options.pace.interval_max
        ):
            return await self._failed(entry, failure)
        metrics.POLLS.labels(self._upstream.name, failure.reason).inc()
        self._paused_until = self._clock.monotonic() + PAUSE_PROBE
        if self._paused_reason is None:
            self._paused_reason = failure.reason
            self._pause_key = f"{self._upstream.name}:{self._clock.now():.0f}"
            metrics.CREDENTIAL_PAUSED.labels(self._upstream.name).set(1)
            log.error("credential paused", upstream=self._upstream.name, status_code=failure.status_code)
        if self._pause_key is not None:
            name = self._upstream.name
            text = (
                f"The upstream {name} answers {failure.status_code}: its api_key was refused. "
                f"{len(self._entries)} tasks wait. Put a working key into upstreams.{name}.api_key "
                "and restart relay."
            )
            await self._notice("credential_paused", self._pause_key, text)
            self._pause_key = None  # told; until then the next probe tries again
        return 0.0

    def _resume(self) -> None:
        self._paused_reason = None
        metrics.CREDENTIAL_PAUSED.labels(self._upstream.name).set(0)
        log.info("credential works again", upstream=self._upstream.name)
