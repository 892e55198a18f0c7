"""The broadcast of what was committed: nothing missed, nothing twice, in order, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.domain import errors, model
from relay.engine import batcher, clock, feed, supervisor
from relay.store import base, opening
from relay.store.sql import SqlStore
from tests.store import making


def render(change: base.Change) -> bytes:
    return f"{change.event.seq}:{change.task_id}".encode()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = await opening.open_store(f"sqlite:///{tmp_path}/relay.db", exclusive=True, migrate=True)
    yield opened
    await opened.aclose()


@pytest.fixture
async def live(store: SqlStore) -> AsyncIterator[feed.Feed]:
    """A feed whose loop runs."""
    running = supervisor.Supervisor(clock.SystemClock())
    made = feed.Feed(store, render=render)
    running.start(made)
    yield made
    await running.stop()


async def happen(to: feed.Feed, name: str, *events: str, key: str = making.KEY, end: bool = False) -> None:
    """Store a task (new to ``key``), then its events, then its end, each in a commit of its own."""
    write = making.new(name, register=making.registration(key))
    await to.write([write])
    task = write.task
    for event in events:
        changed = dataclasses.replace(task, version=task.version + 1)
        await to.write(
            [
                base.TaskWrite(
                    task=changed,
                    expected_version=task.version,
                    events=[making.event(event)],
                    recorded_at=making.NOW,
                )
            ]
        )
        task = changed
    if end:
        await to.write([making.end(task)])


async def taken(reader: feed.Reader, count: int) -> list[str]:
    """What ``reader`` reads until it has so many."""
    found: list[str] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            frames = await reader.read()
            found += [frame.decode() for frame in frames]
            if not frames:
                await reader.wait(10)
    return found


async def everything(reader: feed.Reader) -> list[str]:
    """What ``reader`` reads until it is over."""
    found: list[str] = []
    async with asyncio.timeout(10):
        while True:
            frames = await reader.read()
            found += [frame.decode() for frame in frames]
            if not frames:
                if reader.over:
                    return found
                await reader.wait(10)


async def test_readers_get_what_they_may_see_in_the_order_of_commits(live: feed.Feed) -> None:
    with (
        live.reading(key_id=None) as admin,
        live.reading(key_id=making.KEY) as alice,
        live.reading(key_id=making.OTHER_KEY) as bob,
    ):
        await happen(live, "a", "1", "2")
        await happen(live, "b", "1", key=making.OTHER_KEY)
        await happen(live, "c", "1")
        assert await taken(admin, 4) == ["1:a", "2:a", "3:b", "4:c"]
        assert await taken(alice, 3) == ["1:a", "2:a", "4:c"]
        assert await taken(bob, 1) == ["3:b"]
        assert (await admin.read(), await alice.read(), await bob.read()) == ([], [], [])


async def test_a_reader_goes_on_where_it_was_and_then_lives(live: feed.Feed) -> None:
    await happen(live, "a", *"123456")
    with live.reading(key_id=None, after=2) as reader:
        assert await taken(reader, 4) == ["3:a", "4:a", "5:a", "6:a"]
        await happen(live, "b", "1")
        assert await taken(reader, 1) == ["7:b"]
    with live.reading(key_id=making.OTHER_KEY, after=0) as stranger:
        assert await stranger.read() == []


async def test_what_is_registered_later_comes_too(live: feed.Feed, store: SqlStore) -> None:
    await happen(live, "a", "1")
    [watch] = await store.watches([(making.UPSTREAM, "a")])
    assert watch is not None
    with live.reading(key_id=making.OTHER_KEY, after=1) as bob:
        task = dataclasses.replace(watch.task, version=watch.task.version + 1)
        write = base.TaskWrite(
            task=task,
            expected_version=watch.task.version,
            events=[making.event("2")],
            register=making.registration(making.OTHER_KEY),
            recorded_at=making.NOW,
        )
        await live.write([write])
        assert await taken(bob, 1) == ["2:a"]


async def test_a_task_is_over_once_its_last_event_was_read(live: feed.Feed) -> None:
    wanted = making.task("a").id
    with live.reading(key_id=None, task=wanted) as reader, live.reading(key_id=None) as other:
        await happen(live, "b", "1", end=True)
        await happen(live, "a", "1", "2", end=True)
        assert await everything(reader) == ["2:a", "3:a"]
        assert not other.over


async def test_waiting_for_an_end_ends_with_it(live: feed.Feed) -> None:
    with live.reading(key_id=None, task=making.task("a").id) as reader:
        await reader.wait_for_end(0.01)
        assert not reader.over
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(reader.wait_for_end(60))
            group.create_task(happen(live, "a", "1", end=True))
        assert reader.ended


async def test_a_lost_write_is_no_end(live: feed.Feed) -> None:
    with live.reading(key_id=None, task=making.task("a").id) as reader:
        await happen(live, "a", "1")
        stale = dataclasses.replace(making.task("a"), version=7)
        assert await live.write([making.end(stale)]) == [None]
        await happen(live, "b", "1")
        assert await taken(reader, 1) == ["1:a"]
        assert not reader.over


async def test_who_drops_its_registration_reads_no_more(live: feed.Feed) -> None:
    wanted = making.task("a")
    with (
        live.reading(key_id=making.KEY, task=wanted.id) as alice,
        live.reading(key_id=None, task=wanted.id) as admin,
    ):
        await happen(live, "a")
        dropped = base.TaskWrite(
            task=dataclasses.replace(wanted, version=1),
            expected_version=0,
            unregister=making.KEY,
            recorded_at=making.NOW,
        )
        assert await live.write([dropped]) == [base.Recorded()]
        assert await everything(alice) == []
        assert not admin.over


async def test_a_drain_ends_every_reader(live: feed.Feed) -> None:
    with live.reading(key_id=None) as one, live.reading(key_id=None, task="tsk_a") as other:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            ends = [group.create_task(everything(reader)) for reader in (one, other)]
            await asyncio.sleep(0)
            live.drain()
        assert [end.result() for end in ends] == [[], []]
    with live.reading(key_id=None) as late:
        assert await everything(late) == []


class CountingStore:
    """A store whose reads of events are counted, and may fail."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.reads = 0
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def changes(self, **given: Any) -> list[base.Change]:
        if self.failures:
            self.failures -= 1
            raise errors.StoreUnavailable("away")
        self.reads += 1
        return await self._store.changes(**given)


async def test_while_nobody_reads_nothing_is_read_or_kept(store: SqlStore) -> None:
    counting = CountingStore(store)
    quiet = feed.Feed(counting, render=render)  # type: ignore[arg-type]
    await happen(quiet, "a", "1", "2")
    assert await quiet.tick() is None
    assert (counting.reads, quiet.kept) == (0, (0, 0))
    with quiet.reading(key_id=None, after=2):
        await quiet.tick()
        await happen(quiet, "b", "1")
        await quiet.tick()
        assert quiet.kept[0] == 1
    await quiet.tick()
    assert quiet.kept == (0, 0)


async def test_many_readers_cost_one_reading_of_the_database(store: SqlStore) -> None:
    counting = CountingStore(store)
    shared = feed.Feed(counting, render=render)  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(shared.reading(key_id=None)) for _ in range(200)]
        await shared.tick()
        for reader in readers:
            assert await reader.read() == []
        before = counting.reads
        await happen(shared, "a", "1", "2", "3")
        await shared.tick()
        for reader in readers:
            assert len(await reader.read()) == 3
        # One page, and one more look that finds nothing new would be allowed.
        assert counting.reads - before <= 2


async def test_who_falls_behind_the_ring_reads_from_the_database_and_misses_nothing(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RING_MAX", 4)
    monkeypatch.setattr(feed, "RING_BYTES", 12)
    monkeypatch.setattr(feed, "BACKLOG_PAGE", 3)
    monkeypatch.setattr(feed, "BACKLOG_SPAN", 5)
    small = feed.Feed(store, render=render)
    with (
        small.reading(key_id=None) as slow,
        small.reading(key_id=making.OTHER_KEY) as rare,
        small.reading(key_id=None, task=making.task("rare").id) as one,
    ):
        await small.tick()
        for reader in (slow, rare, one):
            assert await reader.read() == []
        await happen(small, "a", *map(str, range(20)))
        await small.tick()
        await happen(small, "rare", "1", key=making.OTHER_KEY)
        await happen(small, "b", *map(str, range(7)))
        await small.tick()
        count, size = small.kept
        assert count <= 4
        assert size <= 12
        assert await taken(rare, 1) == ["21:rare"]
        assert await taken(one, 1) == ["21:rare"]
        found = await taken(slow, 28)
    assert found == [f"{n}:a" for n in range(1, 21)] + ["21:rare"] + [f"{n}:b" for n in range(22, 29)]


async def test_what_a_failing_database_keeps_back_comes_later(store: SqlStore) -> None:
    counting = CountingStore(store)
    shaky = feed.Feed(counting, render=render)  # type: ignore[arg-type]
    with shaky.reading(key_id=None, task=making.task("a").id) as reader:
        await shaky.tick()
        assert await reader.read() == []
        await happen(shaky, "a", "1", end=True)
        counting.failures = 1
        with pytest.raises(errors.StoreUnavailable):
            await shaky.tick()
        assert not reader.over
        await shaky.tick()
        assert await everything(reader) == ["1:a"]


async def test_order_is_kept_under_concurrent_commits(store: SqlStore) -> None:
    """Sixty writers, and readers that come and go in between: each sees one unbroken sequence."""
    running = supervisor.Supervisor(clock.SystemClock())
    shared = feed.Feed(store, render=render)
    writes: batcher.Batcher[base.Write, base.Written] = batcher.Batcher("w", shared.write)
    running.start(shared)
    running.start(writes)
    total = 60 * 6

    async def writer(number: int) -> None:
        write = making.new(f"t-{number}")
        await writes.put(write)
        task: model.Task = write.task
        for event in range(6):
            changed = dataclasses.replace(task, version=task.version + 1)
            await writes.put(
                base.TaskWrite(
                    task=changed,
                    expected_version=task.version,
                    events=[making.event(str(event))],
                    recorded_at=making.NOW,
                )
            )
            task = changed

    async def follow(pauses: Sequence[int]) -> list[str]:
        """Read all, leaving and coming back where it was after so many frames each time."""
        found: list[str] = []
        for pause in (*pauses, total):
            after = int(found[-1].partition(":")[0]) if found else 0
            with shared.reading(key_id=None, after=after) as reader:
                found += await taken(reader, min(pause, total - len(found)))
        return found

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(follow(pauses)) for pauses in ((), (5, 40, 100), (1,) * 30)]
        for number in range(60):
            group.create_task(writer(number))
    await running.stop()
    expected = [f"{number}" for number in range(1, total + 1)]
    for reader in readers:
        assert [each.partition(":")[0] for each in reader.result()] == expected
