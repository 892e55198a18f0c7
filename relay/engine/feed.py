"""Live changes for whoever reads along: an in-process broadcast of what was committed.

The order is that of ``seq``, which is the order of commits: every task write of this process goes
through ``Feed.write``, one batch at a time, and SQLite has one writer. After a commit the loop reads
the new events once, for all readers, into a ring. A reader is a position: it takes from the ring what
lies behind it, or from the database where the ring has moved on, so a slow one costs no memory.
While nobody reads, nothing is read. What is sent of an event is the web's; it is made once.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relay.domain import errors
from relay.store import base as store_base

LOAD_MAX: Final = 500
"""Events that are read at once."""

RING_MAX: Final = 2_000
"""Events kept for readers that are a little behind."""

RING_BYTES: Final = 4 * 1024 * 1024
"""Bytes of what they are sent, however large single events are."""

BATCH_BYTES: Final = 32 * 1024
"""Bytes handed to a reader at once; one event may be more."""

BACKLOG_PAGE: Final = 50
"""Events that one reader which is behind the ring reads at once."""

BACKLOG_SPAN: Final = 10_000
"""Events that one such reading looks at, whoever may see them."""


@dataclass(frozen=True, slots=True)
class _Entry:
    seq: int
    task: str
    keys: frozenset[str]
    frame: bytes


class Reader:
    """One that reads along, made by ``Feed.reading``.

    ``position`` is the ``seq`` behind which it goes on. ``caught_up``: of all that the ring holds
    there is nothing left for it. ``ended``: the task it reads has ended and its events can be read,
    or its key dropped its registration.
    """

    def __init__(self, feed: Feed, *, key_id: str | None, task: str | None, after: int) -> None:
        self.key_id = key_id
        self.task = task
        self.ended = False
        self.position = after
        self.caught_up = False
        self.news = asyncio.Event()
        self._feed = feed

    async def read(self) -> list[bytes]:
        """What comes next, in order; empty when there is nothing more for now.

        Raises ``errors.StoreUnavailable``; nothing is skipped then.
        """
        return await self._feed.read(self)

    async def wait(self, seconds: float) -> bool:
        """Wait for news, the task's end or a drain; ``False`` when none came in ``seconds``."""
        if self._feed.draining:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for_end(self, seconds: float) -> None:
        """Return once the task has ended, at a drain, or after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                while not self.over:
                    await self.news.wait()
                    self.news.clear()
        except TimeoutError:
            return

    @property
    def over(self) -> bool:
        """Whether nothing will come any more: the task has ended, or relay stops."""
        return self.ended or self._feed.draining

    def sees(self, entry: _Entry) -> bool:
        """Whether this reader is to get that."""
        return (self.task is None or self.task == entry.task) and (
            self.key_id is None or self.key_id in entry.keys
        )


class Feed:
    """A supervised loop between the batcher and the readers."""

    def __init__(self, store: store_base.Store, *, render: Callable[[store_base.Change], bytes]) -> None:
        """``render`` makes what readers are sent of one event."""
        self.name = "feed"
        self.wake = asyncio.Event()
        self.draining = False
        self._store = store
        self._render = render
        self._of_all: set[Reader] = set()
        self._of_task: dict[str, set[Reader]] = {}
        self._ended: set[tuple[str, str | None]] = set()
        self._ring: list[_Entry] = []
        self._ring_bytes = 0
        # The ring holds every event with _floor < seq <= _head; None: nobody reads, nothing is kept.
        self._floor: int | None = None
        self._head = 0

    # -- what is committed ----------------------------------------------------------------------

    async def write(
        self, writes: Sequence[store_base.Write]
    ) -> list[store_base.Written | errors.StoreRejected]:
        """``Store.write``, and the readers are woken. The batcher calls it, one call at a time."""
        answers = await self._store.write(writes)
        if self._of_all or self._of_task:
            for write, answer in zip(writes, answers, strict=True):
                if isinstance(write, store_base.TaskWrite) and isinstance(answer, store_base.Recorded):
                    if write.task.id in self._of_task:
                        self._note_end(write)
                    self.wake.set()
        return answers

    def _note_end(self, write: store_base.TaskWrite) -> None:
        """For whom reading this task is over with that write: for everybody, or for one key."""
        if write.task.verdict.final:
            self._ended.add((write.task.id, None))
        elif write.unregister is not None:
            self._ended.add((write.task.id, write.unregister))

    # -- who reads ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, *, key_id: str | None, task: str | None = None, after: int = 0) -> Iterator[Reader]:
        """Read along from behind ``after`` on.

        ``key_id`` narrows to tasks that this key is registered on when the event is read, ``task``
        to relay's id of one.
        """
        reader = Reader(self, key_id=key_id, task=task, after=after)
        group = self._of_all if task is None else self._of_task.setdefault(task, set())
        group.add(reader)
        if self._floor is None:
            self.wake.set()
        try:
            yield reader
        finally:
            group.discard(reader)
            if task is not None and not group:
                self._of_task.pop(task, None)

    def readers(self, key_id: str | None) -> int:
        """How many there are that were narrowed to that key."""
        groups = (self._of_all, *self._of_task.values())
        return sum(reader.key_id == key_id for group in groups for reader in group)

    @property
    def kept(self) -> tuple[int, int]:
        """Events in the ring, and their bytes."""
        return len(self._ring), self._ring_bytes

    def drain(self) -> None:
        """Let every reader come to its end."""
        self.draining = True
        for reader in self._everybody():
            reader.news.set()

    async def read(self, reader: Reader) -> list[bytes]:
        """See ``Reader.read``."""
        reader.news.clear()
        if reader.caught_up:
            return []
        if self._floor is not None and reader.position >= self._floor:
            return self._from_ring(reader)
        return await self._from_store(reader)

    def _from_ring(self, reader: Reader) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        start = bisect.bisect_right(self._ring, reader.position, key=lambda entry: entry.seq)
        for index in range(start, len(self._ring)):
            entry = self._ring[index]
            if reader.sees(entry):
                if frames and size + len(entry.frame) > BATCH_BYTES:
                    return frames
                frames.append(entry.frame)
                size += len(entry.frame)
            reader.position = entry.seq
        reader.position = max(reader.position, self._head)
        reader.caught_up = not frames
        return frames

    async def _from_store(self, reader: Reader) -> list[bytes]:
        """A page of the backlog. What nobody may see is passed over, a span at a time."""
        while True:
            head = self._head if self._floor is not None else await self._store.last_event()
            upto = head if reader.task is not None else min(head, reader.position + BACKLOG_SPAN)
            if upto <= reader.position:
                reader.caught_up = True
                return []
            found = await self._store.changes(
                after=reader.position,
                upto=upto,
                limit=BACKLOG_PAGE,
                key_id=reader.key_id,
                task=reader.task,
            )
            reader.position = found[-1].event.seq if len(found) == BACKLOG_PAGE else upto
            if found:
                return [self._render(change) for change in found]

    # -- the loop -------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """Read what was committed since the last pass, and wake those whom it concerns."""
        if not (self._of_all or self._of_task):
            self._floor = None
            self._forget(len(self._ring))
            self._ended.clear()
            return None
        ended = frozenset(self._ended)
        if self._floor is None:
            self._head = self._floor = await self._store.last_event()
            for reader in self._everybody():  # what was committed before is read from the database
                reader.caught_up = False
                reader.news.set()
        elif await self._load():
            return 0.0
        for task, key_id in ended:
            for reader in self._of_task.get(task, ()):
                if key_id is None or key_id == reader.key_id:
                    reader.ended = True
                    reader.news.set()
        self._ended -= ended
        return None

    async def _load(self) -> bool:
        """Take in the next events; whether there are more."""
        found = await self._store.changes(after=self._head, upto=2**63 - 1, limit=LOAD_MAX)
        if not found:
            return False
        keys = await self._store.watchers({change.event.task for change in found})
        entries = [
            _Entry(
                change.event.seq,
                change.event.task,
                keys.get(change.event.task, frozenset()),
                self._render(change),
            )
            for change in found
        ]
        self._ring += entries
        self._ring_bytes += sum(len(entry.frame) for entry in entries)
        self._head = entries[-1].seq
        self._trim()
        self._announce(entries)
        return len(found) == LOAD_MAX

    def _announce(self, entries: Sequence[_Entry]) -> None:
        """Wake readers; one that had everything goes on right before the first entry that it sees."""
        firsts: dict[str, _Entry] = {}
        for entry in entries:
            firsts.setdefault(entry.task, entry)
        for task, first in firsts.items():
            for reader in self._of_task.get(task, ()):
                _wake(reader, first)
        for reader in self._of_all:
            seen = next((entry for entry in entries if reader.sees(entry)), None)
            if seen is not None:
                _wake(reader, seen)

    def _trim(self) -> None:
        gone = max(0, len(self._ring) - RING_MAX)
        size = self._ring_bytes - sum(len(entry.frame) for entry in self._ring[:gone])
        while size > RING_BYTES:
            size -= len(self._ring[gone].frame)
            gone += 1
        if gone:
            self._floor = self._ring[gone - 1].seq
            self._forget(gone)

    def _forget(self, count: int) -> None:
        self._ring_bytes -= sum(len(entry.frame) for entry in self._ring[:count])
        del self._ring[:count]

    def _everybody(self) -> Iterator[Reader]:
        for group in (self._of_all, *self._of_task.values()):
            yield from group


def _wake(reader: Reader, first: _Entry) -> None:
    if reader.caught_up:
        reader.position = max(reader.position, first.seq - 1)
        reader.caught_up = False
    reader.news.set()
