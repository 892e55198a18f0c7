"""What callers ask for: registering a task, dropping a registration.

Every change goes through ``recording.Recorder`` with compare-and-set, so a destination that is
added at the very moment the task ends is told: either the poll sees the registration, or this
write loses, reads the ended task, and owes the delivery itself. Submitting is ``submissions.py``'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.domain import errors, ids, lifecycle, model
from relay.engine import clock as clocks
from relay.engine import outbox, pollers, recording
from relay.store import base as store_base


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller wants to be told about one task.

    ``statuses`` and ``metadata`` of ``None`` leave what was registered before; ``notify`` is added
    to what was registered before, never taken away.
    """

    upstream: str
    task_id: str
    notify: tuple[str, ...] = ()
    statuses: frozenset[model.Change] | None = None
    metadata: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """``created``: the caller's key had no registration on the task before."""

    watch: model.Watch
    created: bool


class Intake:
    """Registrations. Never calls an upstream."""

    def __init__(
        self,
        *,
        store: store_base.Tasks,
        recorder: recording.Recorder,
        pollers: pollers.Pollers,
        box: outbox.Outbox,
        clock: clocks.Clock,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._pollers = pollers
        self._outbox = box
        self._clock = clock
        self._randomness = randomness

    async def register(self, key_id: str, wanted: Sequence[Wanted]) -> list[Registered]:
        """Register each; answers in order. Naming a task twice merges both.

        Raises ``errors.RequestRefused`` for an unknown upstream or destination (nothing is
        registered then) and ``errors.StoreUnavailable``.
        """
        for one in wanted:
            self.check(one.upstream, one.notify)
        return [await self._register(key_id, one) for one in wanted]

    def check(self, upstream: str, notify: Sequence[str]) -> None:
        """Raise ``errors.RequestRefused`` unless these are configured."""
        if upstream not in self._pollers.names:
            known = ", ".join(sorted(self._pollers.names))
            raise errors.RequestRefused(
                f"no upstream named {upstream!r}; there is {known}", pointer="/upstream"
            )
        for position, name in enumerate(notify):
            if self._outbox.unknown([name]):
                known = ", ".join(sorted(self._outbox.table.destinations)) or "none"
                raise errors.RequestRefused(
                    f"no destination named {name[:80]!r}; configured: {known}", pointer=f"/notify/{position}"
                )

    async def _register(self, key_id: str, wanted: Wanted) -> Registered:
        while True:
            [watch] = await self._store.watches([(wanted.upstream, wanted.task_id)])
            done = await self.join(key_id, wanted, watch)
            if done is not None:
                return done

    async def join(
        self,
        key_id: str,
        wanted: Wanted,
        watch: model.Watch | None,
        *,
        task: model.Task | None = None,
        changes: Sequence[model.Change] = (),
        resolve: tuple[str, bytes] | None = None,
    ) -> Registered | None:
        """One try at storing a registration on ``watch`` (``None``: the task is new).

        ``task`` is the task to be stored instead of what ``watch`` holds, ``changes`` what that
        means for everybody registered; ``resolve`` settles a submission in the same transaction.
        ``None`` when another writer was first.
        """
        now = self._clock.now()
        known = watch.registrations if watch else ()
        before = next((r for r in known if r.key_id == key_id), None)
        registration = _merged(before, wanted, key_id=key_id, now=now)
        after = task or (watch.task if watch else self.new_task(wanted.upstream, wanted.task_id))
        after = dataclasses.replace(after, version=watch.task.version + 1 if watch else 1)
        write = store_base.TaskWrite(
            task=after,
            expected_version=watch.task.version if watch else None,
            register=registration,
            resolve=resolve,
            recorded_at=now,
        )
        registrations = (*(r for r in known if r.key_id != key_id), registration)
        if changes:
            stored = await self._recorder.write(write, changes, registrations)
        else:
            # What happened before is owed to this registration only; others had their turn.
            stored = await self._recorder.write(write, lifecycle.changes_so_far(after), [registration])
        if not stored:
            return None
        current = model.Watch(task=after, registrations=registrations)
        self._pollers.watch(current)
        return Registered(watch=current, created=before is None)

    def new_task(self, upstream: str, task_id: str) -> model.Task:
        """A task that nothing is known of yet."""
        return model.Task(
            id=ids.make("tsk", self._randomness(ids.RANDOM_BYTES)),
            upstream=upstream,
            task_id=task_id,
            created_at=self._clock.now(),
        )

    async def unregister(self, key_id: str, *, upstream: str, task_id: str) -> bool:
        """Drop the registration of ``key_id``; ``False`` when there is none.

        With the last one the task is no longer asked about. What is owed already is still told.
        """
        while True:
            [watch] = await self._store.watches([(upstream, task_id)])
            if watch is None or all(r.key_id != key_id for r in watch.registrations):
                return False
            after = dataclasses.replace(watch.task, version=watch.task.version + 1)
            write = store_base.TaskWrite(
                task=after,
                expected_version=watch.task.version,
                unregister=key_id,
                recorded_at=self._clock.now(),
            )
            if await self._recorder.write(write, (), ()):
                left = tuple(r for r in watch.registrations if r.key_id != key_id)
                self._pollers.watch(model.Watch(task=after, registrations=left))
                return True


def _merged(
    before: model.Registration | None, wanted: Wanted, *, key_id: str, now: float
) -> model.Registration:
    if before is None:
        return model.Registration(
            key_id=key_id,
            notify=tuple(dict.fromkeys(wanted.notify)),
            statuses=wanted.statuses,
            metadata=wanted.metadata,
            created_at=now,
        )
    return dataclasses.replace(
        before,
        notify=tuple(dict.fromkeys((*before.notify, *wanted.notify))),
        statuses=before.statuses if wanted.statuses is None else wanted.statuses,
        metadata=before.metadata if wanted.metadata is None else wanted.metadata,
    )
