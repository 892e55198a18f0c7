"""The one way in which the engine writes tasks: compose what is owed, store it with the change, send.

Used by the poller (news), by intake (PUT, DELETE, submissions). Compare-and-set: a lost write
returns ``None``, and the caller starts again from ``reload``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from relay.domain import model
from relay.engine import batcher, dispatcher, outbox
from relay.engine import clock as clocks
from relay.store import base as store_base


class Recorder:
    """Turns a changed task into one ``TaskWrite`` and hands what was stored to the dispatcher."""

    def __init__(
        self,
        *,
        store: store_base.Tasks,
        writes: batcher.Batcher[store_base.TaskWrite, store_base.Recorded | None],
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

    async def write(
        self,
        write: store_base.TaskWrite,
        changes: Sequence[model.Change],
        registrations: Sequence[model.Registration],
    ) -> bool:
        """Store ``write`` with the deliveries that ``changes`` owe; ``False`` when it lost."""
        owed = self._outbox.owed(write.task, changes, registrations, now=self._clock.now())
        leased = [self._dispatcher.lease(delivery) for delivery in owed]
        if leased:
            write = dataclasses.replace(write, deliveries=[delivery for delivery, _ in leased])
        try:
            recorded = await self._writes.put(write)
        except asyncio.CancelledError:
            # The batch is written all the same; what it leased is void at the next start.
            self._dispatcher.unstored(leased)
            raise
        except Exception:
            self._dispatcher.unstored(leased)
            raise
        if recorded is None:
            self._dispatcher.unstored(leased)
            return False
        self._dispatcher.stored(leased, recorded.deliveries)
        return True

    async def reload(self, task: model.Task) -> model.Watch | None:
        """The task as it is stored now, with its registrations; ``None`` when it is gone."""
        [watch] = await self._store.watches([(task.upstream, task.task_id)])
        return watch
