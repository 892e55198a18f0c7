"""What the engine writes all day, many facts in one commit: changed tasks and how attempts ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from relay.domain import errors
from relay.store import base
from relay.store.sql import attempts, batches, database, recording
from relay.store.sql.part import Part


class Writing(Part):
    """``base.Store.write`` on a ``Database``, and its two halves."""

    async def record(
        self, writes: Sequence[base.TaskWrite]
    ) -> list[base.Recorded | errors.StoreRejected | None]:
        """See ``base.Tasks.record``."""
        return cast(list[base.Recorded | errors.StoreRejected | None], await self.write(writes))

    async def record_attempts(
        self, attempts: Sequence[base.AttemptWrite]
    ) -> list[int | errors.StoreRejected | None]:
        """See ``base.Deliveries.record_attempts``."""
        answers = await self.write(attempts)
        return [
            answer.number if isinstance(answer, base.Settled) else cast(errors.StoreRejected | None, answer)
            for answer in answers
        ]

    async def write(self, writes: Sequence[base.Write]) -> list[base.Written | errors.StoreRejected]:
        """See ``base.Store.write``."""
        answers: list[base.Written | errors.StoreRejected] = [None] * len(writes)
        tried = _first_of_each_task(writes)
        if tried:
            stored = await batches.isolated(self._database, [writes[index] for index in tried], _store)
            for index, answer in zip(tried, stored, strict=True):
                answers[index] = answer
        return answers


def _first_of_each_task(writes: Sequence[base.Write]) -> list[int]:
    """Indexes of what is tried: of several writes of one task the first, and every outcome."""
    seen: set[tuple[str, str]] = set()
    tried: list[int] = []
    for index, write in enumerate(writes):
        if isinstance(write, base.TaskWrite):
            name = (write.task.upstream, write.task.task_id)
            if name in seen:
                continue
            seen.add(name)
        tried.append(index)
    return tried


async def _store(transaction: database.Transaction, writes: Sequence[base.Write]) -> list[base.Written]:
    changed = [write for write in writes if isinstance(write, base.TaskWrite)]
    ended = [write for write in writes if isinstance(write, base.AttemptWrite)]
    recorded = iter(await recording.store(transaction, changed) if changed else [])
    settled = iter(await attempts.store(transaction, ended) if ended else [])
    return [next(recorded) if isinstance(write, base.TaskWrite) else next(settled) for write in writes]
