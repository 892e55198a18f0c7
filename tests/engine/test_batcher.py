"""Group commit: what comes together is written together, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from relay.domain import errors
from relay.engine import batcher, clock, supervisor


class Table:
    """A store method. ``bad`` items are refused; with ``failure`` every write fails whole."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.bad: set[int] = set()
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, items: Sequence[int]) -> list[int | Exception]:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(items))
        return [errors.StoreRejected(f"bad {n}") if n in self.bad else n * 10 for n in items]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def writes(table: Table) -> batcher.Batcher[int, int]:
    return batcher.Batcher("numbers", table.write)


async def test_what_waits_is_one_batch_in_order(writes: batcher.Batcher[int, int], table: Table) -> None:
    futures = [writes.put(n) for n in range(5)]
    assert len(writes) == 5
    assert await writes.tick() is None
    assert [await one for one in futures] == [0, 10, 20, 30, 40]
    assert table.batches == [[0, 1, 2, 3, 4]]


async def test_a_long_queue_is_written_in_bounded_batches(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    futures = [writes.put(n) for n in range(batcher.BATCH_MAX + 1)]
    assert await writes.tick() == 0.0
    assert await writes.tick() is None
    assert [len(batch) for batch in table.batches] == [batcher.BATCH_MAX, 1]
    assert await futures[-1] == batcher.BATCH_MAX * 10


async def test_one_bad_item_concerns_its_caller_alone(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    table.bad = {1}
    futures = [writes.put(n) for n in range(3)]
    await writes.tick()
    assert await futures[0] == 0
    with pytest.raises(errors.StoreRejected, match="bad 1"):
        await futures[1]
    assert await futures[2] == 20


async def test_a_write_that_fails_is_told_to_everybody_in_it_and_to_nobody_later(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    table.failure = errors.StoreUnavailable("locked")
    futures = [writes.put(n) for n in range(2)]
    await writes.tick()
    for future in futures:
        with pytest.raises(errors.StoreUnavailable):
            await future
    table.failure = None
    later = writes.put(7)
    await writes.tick()
    assert await later == 70


async def test_a_caller_that_went_away_is_written_all_the_same(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    gone, here = writes.put(1), writes.put(2)
    gone.cancel()
    await writes.tick()
    assert await here == 20
    assert table.batches == [[1, 2]]


async def test_a_batch_that_is_cut_off_answers_nobody_falsely(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    table.open.clear()
    watcher = supervisor.Supervisor(clock.SystemClock())
    watcher.start(writes)
    future = writes.put(1)
    async with asyncio.timeout(10):
        while len(writes):
            await asyncio.sleep(0)
    await watcher.stop()
    assert future.cancelled()


async def test_flushed_waits_for_everything_handed_in_so_far(
    writes: batcher.Batcher[int, int], table: Table
) -> None:
    await writes.flushed()
    table.open.clear()
    watcher = supervisor.Supervisor(clock.SystemClock())
    watcher.start(writes)
    futures = [writes.put(n) for n in range(3)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await writes.flushed()
    table.open.set()
    async with asyncio.timeout(10):
        await writes.flushed()
    assert all(one.done() for one in futures)
    await watcher.stop()
