"""Loops are restarted, jobs are waited for, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from relay.domain import errors
from relay.engine import health, supervisor
from tests import harness


class Loop:
    """Ticks as told: an exception is raised, anything else is returned; then it idles."""

    def __init__(self, *script: Exception | float | None) -> None:
        self.name = "scripted"
        self.wake = asyncio.Event()
        self.script = list(script)
        self.ticks = 0

    async def tick(self) -> float | None:
        self.ticks += 1
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        return step

    async def ticked(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.ticks < count:
                await asyncio.sleep(0.005)


@pytest.fixture
def clock() -> harness.OffsetClock:
    return harness.OffsetClock()


@pytest.fixture
def watcher(clock: harness.OffsetClock) -> supervisor.Supervisor:
    return supervisor.Supervisor(clock)


async def test_a_loop_runs_again_at_once_later_or_when_woken(watcher: supervisor.Supervisor) -> None:
    loop = Loop(0.0, 0.01, None)
    watcher.start(loop)
    await loop.ticked(3)
    loop.wake.set()
    await loop.ticked(4)
    await watcher.stop()
    ticks = loop.ticks
    loop.wake.set()
    await asyncio.sleep(0)
    assert loop.ticks == ticks


async def test_work_that_comes_during_a_tick_is_seen(watcher: supervisor.Supervisor) -> None:
    loop = Loop()
    inner = loop.tick

    async def tick() -> float | None:
        if loop.ticks == 0:
            loop.wake.set()
        return await inner()

    loop.tick = tick  # type: ignore[method-assign]
    watcher.start(loop)
    await loop.ticked(2)
    await watcher.stop()


async def test_a_loop_that_fails_is_restarted_and_said_so(
    watcher: supervisor.Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = Loop(RuntimeError("broken"), errors.StoreUnavailable("locked by another process"))
    watcher.start(loop)
    await loop.ticked(3)
    assert watcher.loops["scripted"].restarts == 2
    await watcher.stop()
    logged = capsys.readouterr().out
    assert "Traceback" in logged
    assert "locked by another process" in logged
    assert logged.count("Traceback") == 1, "a database that is away is one line, not a traceback"


async def test_a_loop_that_waits_for_the_database_is_alive_but_makes_no_progress(
    watcher: supervisor.Supervisor, clock: harness.OffsetClock
) -> None:
    loop = Loop(None)
    watcher.start(loop)
    await loop.ticked(1)
    loop.script = [errors.StoreUnavailable("disk full")] * 1000
    clock.offset += health.STUCK_AFTER + 1
    assert watcher.stuck(health.STUCK_AFTER) == watcher.hung(health.STUCK_AFTER) == ["scripted"]
    loop.wake.set()
    await loop.ticked(2)
    assert watcher.stuck(health.STUCK_AFTER) == ["scripted"]
    assert watcher.hung(health.STUCK_AFTER) == []
    await watcher.stop()


async def test_a_drain_waits_for_the_patient_and_cuts_the_rest(watcher: supervisor.Supervisor) -> None:
    go_on, ended = asyncio.Event(), []

    async def work(name: str) -> None:
        await go_on.wait()
        ended.append(name)

    cut = watcher.spawn(work("cut"), name="cut")
    watcher.spawn(work("patient"), name="patient", patient=True)
    assert watcher.jobs_running == 2
    draining = asyncio.ensure_future(watcher.drain(10))
    async with asyncio.timeout(10):
        while not cut.done():
            await asyncio.sleep(0)
    go_on.set()
    assert await draining == 0
    assert (ended, watcher.jobs_running) == (["patient"], 0)


async def test_a_drain_ends_although_work_does_not(
    watcher: supervisor.Supervisor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_TIMEOUT", 0.05)
    go_on = asyncio.Event()

    async def stubborn() -> None:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    job = watcher.spawn(stubborn(), name="stubborn", patient=True)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await watcher.drain(0.01) == 1
    assert "work does not end" in capsys.readouterr().out
    go_on.set()
    await job


async def test_an_error_of_a_job_is_logged_once_and_an_awaited_one_left_to_its_caller(
    watcher: supervisor.Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(error: Exception) -> None:
        raise error

    jobs = [
        watcher.spawn(fail(RuntimeError("loud")), name="one"),
        watcher.spawn(fail(errors.StoreUnavailable("quiet")), name="two", awaited=True),
        watcher.spawn(fail(RuntimeError("unforeseen")), name="three", awaited=True),
    ]
    await asyncio.wait(jobs)
    logged = capsys.readouterr().out
    assert [logged.count(f"job={name}") for name in ("one", "two", "three")] == [1, 0, 1]
