"""The one way in which the engine writes tasks: compose what is owed, store it with the change, send.

Used by the poller (news), by intake (PUT, DELETE, submissions). Compare-and-set: a lost write
returns ``None``, and the caller starts again from ``reload``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.domain import errors, model, routing
from relay.engine import batcher, dispatcher, outbox, seats
from relay.engine import clock as clocks
from relay.store import base as store_base

_PASSED: Final = frozenset(change.type for change in model.PASSED)

_Leased = tuple[model.NewDelivery, seats.Seat | None]
_HandedIn = tuple[asyncio.Future[store_base.Written], list[_Leased]]


@dataclass(slots=True, kw_only=True)
class Change:
    """A write, what it means (``changes``), and for whom. Made with every registration, so not frozen."""

    write: store_base.TaskWrite
    changes: Sequence[model.Change]
    registrations: Sequence[model.Registration]


class Recorder:
    """Turns a changed task into one ``TaskWrite`` and hands what was stored to the dispatcher."""

    def __init__(
        self,
        *,
        store: store_base.Tasks,
        writes: batcher.Batcher[store_base.Write, store_base.Written],
        dispatcher: dispatcher.Dispatcher,
        box: outbox.Outbox,
        clock: clocks.Clock,
    ) -> None:
        self._store = store
        self._writes = writes
        self._dispatcher = dispatcher
        self._outbox = box
        self._clock = clock

    async def changed(
        self,
        watch: model.Watch,
        task: model.Task,
        changes: Sequence[model.Change],
        events: Sequence[model.Event],
        *,
        cursor: str | None,
    ) -> model.Watch | None:
        """Store ``task`` (made from ``watch.task``) with its events and whom to tell of ``changes``.

        ``cursor`` is where reading goes on behind those events.

        The watch as stored, or ``None`` when another writer was first. Raises
        ``errors.StoreUnavailable``; nothing is stored then.
        """
        after = dataclasses.replace(task, cursor=cursor, version=watch.task.version + 1)
        write = store_base.TaskWrite(
            task=after,
            expected_version=watch.task.version,
            events=events,
            recorded_at=self._clock.now(),
        )
        stored = await self.write(write, changes, watch.registrations)
        return dataclasses.replace(watch, task=after) if stored else None

    def write(
        self,
        write: store_base.TaskWrite,
        changes: Sequence[model.Change],
        registrations: Sequence[model.Registration],
    ) -> Coroutine[Any, Any, bool]:
        """Store ``write`` with the deliveries that ``changes`` owe; ``False`` when it lost.

        Handed in at once; to be awaited at once, too, or what was leased for it is not given back.
        """
        return self._stored(*self._hand_in(write, changes, registrations))

    async def write_all(self, changes: Sequence[Change]) -> list[bool | errors.StoreError]:
        """Store many, in as few commits as hold them; the answer for one that failed is its error."""
        handed_in = deque(self._hand_in(one.write, one.changes, one.registrations) for one in changes)
        answers: list[bool | errors.StoreError] = []
        try:
            while handed_in:
                try:
                    answers.append(await self._stored(*handed_in.popleft()))
                except errors.StoreError as exc:
                    answers.append(exc)
        finally:
            for future, leased in handed_in:  # only when this was cancelled
                future.cancel()
                self._dispatcher.unstored(leased)
        return answers

    def _hand_in(
        self,
        write: store_base.TaskWrite,
        changes: Sequence[model.Change],
        registrations: Sequence[model.Registration],
    ) -> _HandedIn:
        leased: list[_Leased] = []
        if changes:
            owed = self._outbox.owed(write.task, changes, registrations, now=self._clock.now())
            if routing.supersedes(write.task, registrations, self._outbox.table):
                write = dataclasses.replace(write, supersede=True)
                # What the end makes old news is not even begun: it would race with the end.
                leased = [
                    (each, None) if each.type in _PASSED else self._dispatcher.lease(each) for each in owed
                ]
            else:
                leased = [self._dispatcher.lease(delivery) for delivery in owed]
        if leased:
            write = dataclasses.replace(write, deliveries=[delivery for delivery, _ in leased])
        return self._writes.put(write), leased

    async def _stored(self, future: asyncio.Future[store_base.Written], leased: Sequence[_Leased]) -> bool:
        """Whether the write won; what it leased is then sent."""
        try:
            recorded = await future
        except BaseException:
            # Cancelled, the batch is written all the same; what it leased is void at the next start.
            self._dispatcher.unstored(leased)
            raise
        if not isinstance(recorded, store_base.Recorded):  # it lost: None
            self._dispatcher.unstored(leased)
            return False
        self._dispatcher.stored(leased, recorded.deliveries)
        return True

    async def reload(self, task: model.Task) -> model.Watch | None:
        """The task as it is stored now, with its registrations; ``None`` when it is gone."""
        [watch] = await self._store.watches([(task.upstream, task.task_id)])
        return watch
