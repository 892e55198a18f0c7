"""Disks that fill up, databases that are locked, clocks that are set: the daemon waits and goes on."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.domain import errors
from relay.engine import batcher
from relay.engine import intake as intakes
from relay.store import base as store_base
from relay.store import sqlite
from tests import harness
from tests.engine.test_poller import DONE, asked, body, told
from tests.fakes import receivers, upstream

HOLDS_THE_LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""

LOCKED_FOR = 30.0
"""How long somebody's transaction is left open, seconds."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process hold the database's write lock."""
    command = (sys.executable, "-c", HOLDS_THE_LOCK, str(path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.kill()


def running(fake: upstream.FakeUpstream, *names: str, status: str = "processing") -> None:
    """Script tasks that run."""
    for name in names:
        fake.events(name, upstream.Json([]))
        fake.task(name, upstream.Json(body(status, task_id=name)))


def end(fake: upstream.FakeUpstream, *names: str) -> None:
    """Script tasks that ended."""
    for name in names:
        fake.events(name, upstream.Json({**DONE, "task_id": name}))
        fake.task(name, upstream.Json({**DONE, "task_id": name}))


def counts(hook: receivers.Receiver) -> dict[str, int]:
    """How often each delivery was told."""
    found: dict[str, int] = {}
    for request in hook.requests:
        delivery_id = request.headers["webhook-id"]
        found[delivery_id] = found.get(delivery_id, 0) + 1
    return found


@pytest.mark.timeout(180)
async def test_ends_during_a_locked_database_are_told_once_it_is_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"t{n}" for n in range(20)]
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"hook": harness.webhook(hook)}, upstream_options={"poll_interval_max": 1}
        ) as relay,
    ):
        running(fake, *names)
        for name in names:
            await relay.watch(name, notify=["hook"])
        with locked(tmp_path / "relay.db"):
            until = time.monotonic() + LOCKED_FOR
            end(fake, *names)
            while time.monotonic() < until:
                # Each runs into the end of SQLite's own patience.
                status, problem = await relay.call("PUT", "/tasks/other", json={})
                assert status == 503, problem
            assert not hook.requests
        said = capsys.readouterr().out
        assert "news not recorded yet" in said
        assert "locked by another process" in said
        await hook.wait_for(len(names), timeout=60)
        for name in names:
            await relay.until_verdict(name, "ended", timeout=60)
        assert set(counts(hook).values()) == {1}


async def test_an_outcome_survives_a_locked_database(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook, schedule=[0, 600])}) as relay,
    ):
        hook.answer = receivers.Answer(manner=receivers.Manner.HANG)
        end(fake, "t1")
        hook.script = [receivers.Answer(status=500)]
        await relay.watch("t1", notify=["hook"])
        await hook.wait_for(1)
        [pending] = await relay.until_state("pending")
        hook.answer = receivers.Answer()
        with locked(tmp_path / "relay.db"):
            status, _ = await relay.call("POST", f"/deliveries/{pending['id']}/redeliver")
            assert status == 503
        status, _ = await relay.call("POST", f"/deliveries/{pending['id']}/redeliver")
        assert status == 202
        [delivered] = await relay.until_state("delivered", timeout=30)
        assert delivered["attempts_made"] == len(hook.requests) == 2


@pytest.mark.timeout(180)
async def test_a_daemon_stops_in_bounded_time_although_the_database_is_locked(tmp_path: Path) -> None:
    """What is cut then is told at the next start, under the same id."""
    names = [f"t{n}" for n in range(12)]
    async with receivers.serve() as hook, upstream.running() as fake:
        hook.answer = receivers.Answer(manner=receivers.Manner.HANG)
        end(fake, *names)
        config = harness.overrides(tmp_path, fake, {"hook": harness.webhook(hook)})
        config["server"]["drain_timeout"] = 0.5
        process = harness.Process(tmp_path, config)
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                for name in names:
                    await harness.Client(process.url, session).watch(name, notify=["hook"])
            await hook.wait_for(2)
            with locked(tmp_path / "relay.db"):
                process.signal(signal.SIGTERM)
                # Transactions do not wait for SQLite's patience one after the other.
                assert await process.wait(timeout=0.5 + 6 * sqlite.BUSY_TIMEOUT) == 0
            hook.answer = receivers.Answer()
            await process.start()
            async with asyncio.timeout(30):
                while len(counts(hook)) < len(names):
                    await asyncio.sleep(0.05)
        finally:
            await process.stop()


@pytest.mark.timeout(180)
async def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    """No file may grow: what cannot be written is kept in memory, or comes again. Then space is back."""
    names = [f"t{n}" for n in range(10)]
    async with receivers.serve() as hook, upstream.running() as fake:
        running(fake, *names)
        options = {"poll_interval_max": 0.5, "poll_interval_min": 0.1}
        config = harness.overrides(tmp_path, fake, {"hook": harness.webhook(hook)}, upstream_options=options)
        process = harness.Process(tmp_path, config)
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                relay = harness.Client(process.url, session)
                for name in names:
                    await relay.watch(name, notify=["hook"])
                _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))
                end(fake, *names)
                status, problem = await relay.call("PUT", "/tasks/other", json={})
                assert status == 503, problem
                seen = len(fake.requests)
                await _asked_more(fake, seen + 2 * len(names))
                assert not hook.requests
                async with session.get(f"{process.url}/livez") as reply:
                    assert reply.status == 200
                async with session.get(f"{process.url}/readyz") as reply:
                    assert reply.status == 503
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
                await hook.wait_for(len(names), timeout=60)
                for name in names:
                    await relay.until_verdict(name, "ended", timeout=60)
                await relay.watch("other", notify=["hook"])
            process.signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            await process.stop()
        assert set(counts(hook).values()) == {1}


async def _asked_more(fake: upstream.FakeUpstream, count: int) -> None:
    async with asyncio.timeout(30):
        while len(fake.requests) < count:
            await asyncio.sleep(0.02)


async def test_what_is_owed_to_a_destination_that_left_is_held_without_a_restart(tmp_path: Path) -> None:
    """The registration named it when it was there; the task ends when it is not."""
    async with receivers.serve() as hook, upstream.running() as fake:
        running(fake, "t1")
        async with harness.running(tmp_path, fake, {"gone": harness.webhook(hook)}) as relay:
            await relay.watch("t1", notify=["gone"])
        async with harness.running(tmp_path, fake) as relay:
            end(fake, "t1")
            await relay.until_verdict("t1", "ended")
            async with asyncio.timeout(10):
                while not (held := await relay.deliveries(state="held")):
                    relay.advance(1)
                    await asyncio.sleep(0.02)
            assert held[0]["reason"] == "destination_missing"
        async with harness.running(tmp_path, fake, {"gone": harness.webhook(hook)}) as relay:
            assert await told(hook) == ["task.succeeded"]
            await relay.until_state("delivered")


async def test_a_task_that_still_owes_something_outlives_its_retention(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook, schedule=[0, 600000, 600000])},
            retention={"tasks_days": 1, "events_days": 1, "attempts_days": 1},
        ) as relay,
    ):
        hook.answer = receivers.Answer(status=500)
        end(fake, "owes", "done")
        await relay.watch("done")
        await relay.until_verdict("done", "ended")
        await relay.watch("owes", notify=["hook"])
        await relay.until_state("pending")
        relay.advance(2 * 86400)
        async with asyncio.timeout(10):
            while (await relay.call("GET", "/tasks/done"))[0] != 404:
                await asyncio.sleep(0.02)
        [owed] = await relay.deliveries()
        assert (await relay.task("owes"))["status"] == "succeeded"
        hook.answer = receivers.Answer()
        await relay.call("POST", f"/deliveries/{owed['id']}/redeliver")
        await relay.until_state("delivered")
        relay.advance(1)
        async with asyncio.timeout(10):
            while (await relay.call("GET", "/tasks/owes"))[0] != 404:
                relay.advance(61)
                await asyncio.sleep(0.02)


async def test_a_destination_added_to_a_lost_task_is_told_that(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        await relay.watch("t1")
        for looks in range(1, 4):
            await asked(fake, "/api/v1/tasks/t1", looks)
            await relay.later(25)
        await relay.until_verdict("t1", "lost")
        assert await relay.watch("t1", notify=["hook"]) == 200
        assert await told(hook) == ["task.lost"]
        await relay.watch("t1", notify=["hook"])
        assert len(await relay.deliveries()) == 1


async def test_a_drain_with_every_upstream_request_hanging(tmp_path: Path) -> None:
    async with upstream.running() as fake:
        names = [f"t{n}" for n in range(40)]
        for name in names:
            fake.events(name, upstream.Hang())
        options: dict[str, Any] = {"upstream_options": {"concurrency": 8}}
        async with harness.running(tmp_path, fake, **options) as relay:
            for name in names:
                await relay.watch(name)
            await _asked_more(fake, 8)
            assert len(fake.requests) == 8
            status, _ = await relay.call("GET", "/tasks")
            assert status == 200
        assert relay.running.supervisor.jobs_running == 0


async def test_what_was_registered_beside_a_failure_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits, the second fails: the caller hears of it, and the first is asked about all the same."""
    monkeypatch.setattr(batcher, "BATCH_MAX", 1)
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        running(fake, "t1", "t2")
        intake = relay.running.services.intake
        writes = intake._recorder._writes
        commit = writes._write

        async def failing(batch: Sequence[store_base.Write]) -> Any:
            if any(isinstance(write, store_base.TaskWrite) and write.task.task_id == "t2" for write in batch):
                raise errors.StoreUnavailable("locked")
            return await commit(batch)

        monkeypatch.setattr(writes, "_write", failing)
        wanted = [intakes.Wanted(upstream="mindvideo", task_id=name) for name in ("t1", "t2")]
        with pytest.raises(errors.StoreUnavailable):
            await intake.register("key_a", wanted)
        await asked(fake, "/api/v1/tasks/t1/events", 2)
