"""The one place where asyncio tasks are created, and where none of them dies quietly.

Two kinds: *loops*, which never end and are restarted with backoff when they fail, and *jobs*, which
end by themselves and whose unexpected errors are logged. Everything that runs is known here, so a
drain can wait for it and a stop leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import structlog

from relay import metrics
from relay.domain import backoff, errors
from relay.engine import clock as clocks

log = structlog.get_logger(__name__)
T = TypeVar("T")

RESTART_BASE: Final = 0.5
RESTART_CAP: Final = 30.0
"""Seconds before a failed loop is started again: doubled with each failure in a row."""

CANCEL_TIMEOUT: Final = 5.0
"""Seconds for cancelled work to end. What does not is left behind, so that the process can go."""

IDLE_MAX: Final = 15.0
"""A loop with nothing to do ticks at least this often, so that its progress can be seen (seconds)."""


class Loop(Protocol):
    """Something that makes progress one bounded pass at a time."""

    @property
    def name(self) -> str:
        """For logs and metrics."""
        ...

    @property
    def wake(self) -> asyncio.Event:
        """Set by anybody who has work for it."""
        ...

    async def tick(self) -> float | None:
        """One bounded pass. Seconds until the next, ``0.0`` for at once, ``None`` for when woken."""
        ...


@dataclass(slots=True)
class LoopState:
    """What is known of one loop, on the monotonic clock.

    ``last_tick_at`` is when it last finished a pass; ``last_alive_at`` when it last did that or
    found that the database cannot be used.
    """

    loop: Loop
    last_tick_at: float
    last_alive_at: float
    failures: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Supervisor:
    """Starts, restarts, watches and stops."""

    clock: clocks.Clock
    loops: dict[str, LoopState] = field(default_factory=dict)
    _loop_tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _jobs: set[asyncio.Task[Any]] = field(default_factory=set)
    _patient: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, loop: Loop) -> None:
        """Run ``loop`` until ``stop``."""
        now = self.clock.monotonic()
        state = LoopState(loop=loop, last_tick_at=now, last_alive_at=now)
        self.loops[loop.name] = state
        task = asyncio.create_task(self._run(state), name=f"loop {loop.name}")
        self._loop_tasks.add(task)
        task.add_done_callback(self._loop_tasks.discard)

    def spawn(
        self, work: Coroutine[Any, Any, T], *, name: str, awaited: bool = False, patient: bool = False
    ) -> asyncio.Task[T]:
        """Run ``work`` to its end.

        An error is logged here, once. With ``awaited`` the caller handles ``errors.RelayError``
        itself (and may have gone away); anything else is still logged. A drain waits for
        ``patient`` work and cancels the rest at once.
        """
        task = asyncio.create_task(work, name=name)
        jobs = self._patient if patient else self._jobs
        report = self._report_awaited if awaited else self._report

        def ended(task: asyncio.Task[T]) -> None:
            jobs.discard(task)
            report(task)

        jobs.add(task)
        task.add_done_callback(ended)
        return task

    @property
    def jobs_running(self) -> int:
        """How many jobs have not ended."""
        return len(self._jobs) + len(self._patient)

    async def _run(self, state: LoopState) -> None:
        while True:
            try:
                await self._pass(state)
            except asyncio.CancelledError:
                raise
            except errors.StoreUnavailable as exc:
                state.last_alive_at = self.clock.monotonic()
                delay = self._failed(state)
                log.error("loop failed", loop=state.loop.name, restart_in=delay, error=str(exc))
                await asyncio.sleep(delay)
            except Exception:
                delay = self._failed(state)
                log.exception("loop failed", loop=state.loop.name, restart_in=delay)
                await asyncio.sleep(delay)

    def _failed(self, state: LoopState) -> float:
        """Count it; seconds until the loop is started again."""
        state.failures += 1
        state.restarts += 1
        metrics.LOOP_RESTARTS.labels(loop=state.loop.name).inc()
        return backoff.restart(state.failures, base=RESTART_BASE, cap=RESTART_CAP)

    async def _pass(self, state: LoopState) -> None:
        loop = state.loop
        loop.wake.clear()
        delay = await loop.tick()
        state.failures = 0
        state.last_tick_at = state.last_alive_at = self.clock.monotonic()
        if delay == 0.0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(IDLE_MAX if delay is None else min(delay, IDLE_MAX)):
                await loop.wake.wait()
        except TimeoutError:
            return

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("job failed", job=task.get_name(), exc_info=failure)

    def _report_awaited(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and not isinstance(task.exception(), errors.RelayError):
            self._report(task)

    def stuck(self, limit: float) -> list[str]:
        """Loops that have not finished a pass for ``limit`` seconds."""
        now = self.clock.monotonic()
        return [name for name, state in self.loops.items() if now - state.last_tick_at > limit]

    def hung(self, limit: float) -> list[str]:
        """Those of them that do not merely wait for the database: no restart would bring it back."""
        now = self.clock.monotonic()
        return [name for name, state in self.loops.items() if now - state.last_alive_at > limit]

    async def drain(self, timeout: float) -> int:
        """Let patient jobs end for up to ``timeout`` seconds, cancel the rest; how many were cut."""
        await _cancel(self._jobs)
        if self._patient:
            await asyncio.wait(self._patient, timeout=timeout)
        return await _cancel(self._patient)

    async def stop(self) -> None:
        """Cancel every loop and job and wait until they are gone."""
        await _cancel(self._jobs | self._patient)
        await _cancel(self._loop_tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> int:
    running = list(tasks)
    for task in running:
        task.cancel()
    if running:
        _, left = await asyncio.wait(running, timeout=CANCEL_TIMEOUT)
        for task in left:
            log.error("work does not end", job=task.get_name())
    return len(running)
