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


@dataclass(slots=True, kw_only=True)  # not frozen, as nothing here is: that triples what making it costs
class Wanted:
    """What a caller wants to be told about one task. Not changed once it is handed in.

    ``statuses`` and ``metadata`` of ``None`` leave what was registered before; ``notify`` is added
    to what was registered before, never taken away.
    """

    upstream: str
    task_id: str
    notify: tuple[str, ...] = ()
    statuses: frozenset[model.Change] | None = None
    metadata: dict[str, object] | None = None


@dataclass(slots=True, kw_only=True)
class Registered:
    """``created``: the caller's key had no registration on the task before."""

    watch: model.Watch
    created: bool


_Reference = tuple[str, str]
"""Upstream and task id."""


@dataclass(slots=True)
class _Joining:
    """A registration about to be stored, and the watch once it is."""

    change: recording.Change
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

    async def register_one(self, key_id: str, wanted: Wanted) -> Registered:
        """Register one. Raises as ``register`` does."""
        self.check(wanted.upstream, wanted.notify, key_id=key_id)
        watch: model.Watch | None = None  # most tasks are new: to try that first costs less than to ask
        while True:
            done = await self.join(key_id, wanted, watch)
            if done is not None:
                return done
            [watch] = await self._store.watches([(wanted.upstream, wanted.task_id)])

    async def register(self, key_id: str, wanted: Sequence[Wanted]) -> list[Registered]:
        """Register each; answers in order. Naming a task twice merges both.

        Raises ``errors.RequestRefused`` for an unknown upstream or destination (nothing is
        registered then), ``errors.StoreRejected`` and ``errors.StoreUnavailable``.
        """
        for one in wanted:
            self.check(one.upstream, one.notify, key_id=key_id)
        registered = await self.register_each(key_id, wanted)
        for fate in registered:
            if isinstance(fate, errors.StoreRejected):
                raise fate
        return [fate for fate in registered if isinstance(fate, Registered)]

    async def register_each(
        self, key_id: str, wanted: Sequence[Wanted]
    ) -> list[Registered | errors.StoreRejected]:
        """Register what was checked, all together; the answer for one that cannot be stored is its error.

        Raises ``errors.StoreUnavailable``; some may be registered then, and asking again is safe.
        """
        merged: dict[_Reference, Wanted] = {}
        for one in wanted:
            reference = (one.upstream, one.task_id)
            known = merged.get(reference)
            merged[reference] = one if known is None else _both(known, one)
        done: dict[_Reference, Registered | errors.StoreRejected] = {}
        # Most tasks are new. To try that first costs less than to ask, and who loses asks.
        trying: dict[_Reference, model.Watch | None] = dict.fromkeys(merged)
        while trying:
            joinings = [self._joining(key_id, merged[each], watch) for each, watch in trying.items()]
            stored = await self._recorder.write_all([joining.change for joining in joinings])
            lost: list[_Reference] = []
            unavailable: errors.StoreError | None = None
            for reference, joining, answer in zip(trying, joinings, stored, strict=True):
                if isinstance(answer, errors.StoreRejected):
                    done[reference] = answer
                elif isinstance(answer, errors.StoreError):
                    unavailable = answer
                elif answer:
                    done[reference] = self._joined(joining)
                else:
                    lost.append(reference)
            if unavailable is not None:
                raise unavailable  # only now: what was stored beside it is watched
            trying = dict(zip(lost, await self._store.watches(lost), strict=True)) if lost else {}
        answers: list[Registered | errors.StoreRejected] = []
        for one in wanted:
            fate = done[(one.upstream, one.task_id)]
            answers.append(fate)
            if isinstance(fate, Registered) and fate.created:
                # Named again further on, it was there already.
                done[(one.upstream, one.task_id)] = dataclasses.replace(fate, created=False)
        return answers

    def check(self, upstream: str, notify: Sequence[str], *, key_id: str) -> None:
        """Raise ``errors.RequestRefused`` unless these are known, and may be named by this key."""
        if upstream not in self._pollers.names:
            known = ", ".join(sorted(self._pollers.names))
            raise errors.RequestRefused(
                f"no upstream named {upstream!r}; there is {known}", pointer="/upstream"
            )
        for position, name in enumerate(notify):
            if self._may_name(key_id, name):
                continue
            offered = [each for each in self._outbox.table.destinations.values() if each.owner is None]
            known = ", ".join(sorted(each.name for each in offered)) or "none"
            # A URL may hold secrets: it is not repeated.
            wrong = "URLs are not taken here" if "://" in name else f"no destination named {name[:80]!r}"
            raise errors.RequestRefused(f"{wrong}; configured: {known}", pointer=f"/notify/{position}")

    def _may_name(self, key_id: str, name: str) -> bool:
        """Inline destinations belong to the key that made them; to all others they do not exist."""
        known = self._outbox.table.destinations.get(name)
        return known is not None and known.owner in (None, key_id)

    async def join(
        self,
        key_id: str,
        wanted: Wanted,
        watch: model.Watch | None,
        *,
        task: model.Task | None = None,
        changes: Sequence[model.Change] = (),
        resolve: store_base.Resolution | None = None,
    ) -> Registered | None:
        """One try at storing a registration on ``watch`` (``None``: the task is new).

        ``task`` is the task to be stored instead of what ``watch`` holds, ``changes`` what that
        means for everybody registered; ``resolve`` settles a submission in the same transaction.
        ``None`` when another writer was first.
        """
        joining = self._joining(key_id, wanted, watch, task=task, changes=changes, resolve=resolve)
        one = joining.change
        stored = await self._recorder.write(one.write, one.changes, one.registrations)
        return self._joined(joining) if stored else None

    def _joining(
        self,
        key_id: str,
        wanted: Wanted,
        watch: model.Watch | None,
        *,
        task: model.Task | None = None,
        changes: Sequence[model.Change] = (),
        resolve: store_base.Resolution | None = None,
    ) -> _Joining:
        now = self._clock.now()
        before: model.Registration | None = None
        others: tuple[model.Registration, ...] = ()
        expected: int | None = None
        if watch is not None:
            before = next((r for r in watch.registrations if r.key_id == key_id), None)
            others = tuple(r for r in watch.registrations if r.key_id != key_id)
            expected = watch.task.version
        registration = _merged(before, wanted, key_id=key_id, now=now)
        after = task or (watch.task if watch else self.new_task(wanted.upstream, wanted.task_id))
        version = 1 if expected is None else expected + 1
        if after.version != version:
            after = dataclasses.replace(after, version=version)
        write = store_base.TaskWrite(
            task=after,
            expected_version=expected,
            register=registration,
            resolve=resolve,
            recorded_at=now,
        )
        registrations = (*others, registration)
        change = recording.Change(
            write=write,
            # What happened before is owed to this registration only; others had their turn.
            changes=changes or lifecycle.changes_so_far(after),
            registrations=registrations if changes else (registration,),
        )
        return _Joining(change, model.Watch(task=after, registrations=registrations), before is None)

    def _joined(self, joining: _Joining) -> Registered:
        """It is stored: have the task watched."""
        self._pollers.watch(joining.watch)
        return Registered(watch=joining.watch, created=joining.created)

    def new_task(self, upstream: str, task_id: str) -> model.Task:
        """A task that nothing is known of yet."""
        now = self._clock.now()
        return model.Task(
            id=ids.make("tsk", ids.stamp(now, self._randomness(ids.RANDOM_BYTES))),
            upstream=upstream,
            task_id=task_id,
            version=1,
            created_at=now,
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


def _both(first: Wanted, second: Wanted) -> Wanted:
    """What one caller wants of one task, said in two pieces."""
    return dataclasses.replace(
        first,
        notify=tuple(dict.fromkeys((*first.notify, *second.notify))),
        statuses=first.statuses if second.statuses is None else second.statuses,
        metadata=first.metadata if second.metadata is None else second.metadata,
    )


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
