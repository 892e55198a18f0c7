"""A dispatcher on a real store, with destinations that answer as told: for tests of seats and leases.

async with sending.running(tmp_path, {"a": sending.Peer("a")}) as bench:
    delivery = await bench.fresh("a")
    await bench.until(delivery.id, model.DeliveryState.DELIVERED)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.domain import errors, health, ids, model, routing
from relay.engine import batcher, dispatcher, janitor, lanes, outbox, recording, supervisor
from relay.senders import base
from relay.store import base as store_base
from relay.store import opening
from relay.store.sql import SqlStore
from tests import harness

UPSTREAM = "mindvideo"
POLICY = health.Policy(window=1000.0, changes_min=3)
RESUME_RATE = 100.0
CAPACITY = base.Capacity(name="test", seats=4, seats_hanging=2)


@dataclass
class Peer:
    """A destination. It gives ``answers`` in order, then ``fault``, or accepts; ``open`` lets sends end."""

    name: str
    capacity: base.Capacity = CAPACITY
    concurrency: int = 2
    time_limit: float = 5.0
    format: model.Format = model.Format.WEBHOOK
    options: model.DestinationOptions = field(default_factory=model.DestinationOptions)
    address: str = "test://"
    answers: list[Exception | base.Accepted] = field(default_factory=list)
    fault: Exception | None = None
    detail: str | None = None
    taken: list[base.Outgoing] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def send(self, outgoing: base.Outgoing) -> base.Accepted:
        self.taken.append(outgoing)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.open.wait()
        finally:
            self.in_flight -= 1
        answer = self.answers.pop(0) if self.answers else self.fault
        if isinstance(answer, Exception):
            raise answer
        return answer or base.Accepted(status_code=200, detail=self.detail)

    async def asked(self, count: int) -> None:
        """Return once it was told ``count`` times."""
        async with asyncio.timeout(10):
            while len(self.taken) < count:
                await asyncio.sleep(0.005)


class Clock(harness.OffsetClock):
    """Steps ``now`` alone: what people and time servers do to a machine's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = 0.0

    def now(self) -> float:
        return super().now() + self.stepped


@dataclass
class Bench:
    """What runs."""

    store: SqlStore
    dispatcher: dispatcher.Dispatcher
    supervisor: supervisor.Supervisor
    recorder: recording.Recorder
    writes: batcher.Batcher[store_base.Write, store_base.Written]
    clock: Clock
    made: int = 0

    async def fresh(self, *destinations: str) -> list[str]:
        """Store a task that ended, which owes each destination one delivery; their ids."""
        self.made += 1
        name = f"t{self.made}"
        await self.tell(name, *destinations, changes=[model.Change.SUCCEEDED])
        return [ids.delivery_id(UPSTREAM, name, "succeeded", one) for one in destinations]

    async def tell(
        self, name: str, *destinations: str, changes: Sequence[model.Change], version: int = 1
    ) -> None:
        """Store a task at its ``version``, and whom to tell of ``changes``, the last of them its status."""
        now = self.clock.now()
        status = model.Status(changes[-1])
        task = model.Task(
            id=ids.derive("tsk", name),
            upstream=UPSTREAM,
            task_id=name,
            version=version,
            status=status,
            verdict=model.Verdict.ENDED if status.terminal else model.Verdict.RUNNING,
            created_at=now,
            finished_at=now if status.terminal else None,
        )
        told = frozenset(changes)
        registration = model.Registration(key_id="key_a", notify=destinations, statuses=told, created_at=now)
        write = store_base.TaskWrite(
            task=task,
            expected_version=None if version == 1 else version - 1,
            register=registration,
            recorded_at=now,
        )
        assert await self.recorder.write(write, changes, [registration])

    async def pending(
        self, destination: str, *, count: int = 1, attempted: bool = False, age: float = 0.0
    ) -> list[str]:
        """Store deliveries that are due and nobody holds, without waking the dispatcher.

        ``attempted`` ones failed once already. They were made ``age`` seconds ago.
        """
        found = []
        form = self.dispatcher.destinations[destination].format
        for _ in range(count):
            self.made += 1
            delivery_id = f"msg_{self.made}"
            body = model.Notification(id=f"ntf_{self.made}", format=form, type="task.failed", body=b"{}")
            await self.store.add_deliveries(
                [
                    model.NewDelivery(
                        id=delivery_id,
                        task=None,
                        destination=destination,
                        type="task.failed",
                        notification=body,
                        created_at=self.clock.now() - age,
                        leased_until=self.clock.now() + 60 if attempted else None,
                    )
                ]
            )
            found.append(delivery_id)
        if attempted:
            await self.store.record_attempts([self._failed(one) for one in found])
        return found

    def _failed(self, delivery_id: str) -> store_base.AttemptWrite:
        return store_base.AttemptWrite(
            delivery_id=delivery_id,
            fence=1,
            started_at=self.clock.now(),
            duration_ms=1.0,
            outcome=model.Outcome.RETRY,
            state=model.DeliveryState.PENDING,
            next_attempt_at=self.clock.now(),
            reason="http_500",
            status_code=500,
            detail=None,
        )

    def pause(self, name: str) -> model.Health:
        """Close the lane, as whoever pauses does before the store hears of it."""
        after = health.paused(self.dispatcher.health(name), now=self.clock.now())
        self.dispatcher.set_health(after)
        return after

    async def told(self, peer: Peer) -> list[str]:
        """The types that ``peer`` was told, once nothing is under way."""
        await self.idle()
        return [one.type for one in peer.taken]

    def wake(self) -> None:
        """Have every loop notice that time passed."""
        for state in self.supervisor.loops.values():
            state.loop.wake.set()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.offset += seconds
        self.wake()

    async def until(self, delivery_id: str, state: model.DeliveryState) -> model.Delivery:
        """The delivery, as soon as it is in ``state``."""
        async with asyncio.timeout(10):
            while (found := await self.store.delivery(delivery_id)) is None or found.state is not state:
                await asyncio.sleep(0.005)
            return found

    async def idle(self) -> None:
        """Return once nothing is being sent or recorded."""
        async with asyncio.timeout(10):
            while self.supervisor.jobs_running:
                await asyncio.sleep(0.005)

    def taken(self) -> dict[str, tuple[int, int, int, int]]:
        """Per lane: sends in flight, shared seats taken, of them by lanes that hang, and by retries."""
        return {
            lane.name: (lane.in_flight, lane.seats.taken, lane.seats.taken_hanging, lane.seats.taken_retries)
            for lane in self.dispatcher._lanes
        }

    def assert_no_seat_is_taken(self) -> None:
        assert set(self.taken().values()) == {(0, 0, 0, 0)}


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    peers: Mapping[str, Peer],
    *,
    schedule: Sequence[float] = (0.0, 5.0, 60.0),
    known: Collection[str] | None = None,
    operator: Sequence[str] = (),
) -> AsyncIterator[Bench]:
    """Run store, batcher, dispatcher and janitor until the block ends.

    Routing knows every peer, the dispatcher those that are ``known``: all, unless told otherwise.
    """
    clock, rng = Clock(), random.Random(1)
    for peer in peers.values():
        peer.options = dataclasses.replace(peer.options, schedule=tuple(schedule))
    store = await opening.open_store(f"sqlite:///{directory}/relay.db", exclusive=True, migrate=True)
    watcher = supervisor.Supervisor(clock)
    destinations = {name: model.Destination(name=name, format=peer.format) for name, peer in peers.items()}
    box = outbox.Outbox(routing.Table(destinations=destinations), operator=operator)
    writes = batcher.Batcher("writes", store.write)
    sender = dispatcher.Dispatcher(
        store=store,
        destinations=[
            lanes.Definition(sender=peer, options=peer.options, health=model.Health(destination=name))
            for name, peer in peers.items()
            if known is None or name in known
        ],
        policy=POLICY,
        resume_rate=RESUME_RATE,
        box=box,
        supervisor=watcher,
        recorder=writes,
        clock=clock,
        rng=rng,
        randomness=rng.randbytes,
    )
    recorder = recording.Recorder(store=store, writes=writes, dispatcher=sender, box=box, clock=clock)
    days = janitor.Days(tasks=90, events=30, attempts=30)
    caretaker = janitor.Janitor(store=store, days=days, dispatcher=sender, clock=clock, chores=[])
    for loop in (writes, sender, caretaker):
        watcher.start(loop)
    try:
        yield Bench(store, sender, watcher, recorder, writes, clock)
    finally:
        for peer in peers.values():
            peer.open.set()
        await watcher.stop()
        await store.aclose()


def failure(reason: str = "http_500", **more: object) -> errors.SendError:
    """A send that may be tried again."""
    return errors.SendError(f"it answered {reason}", reason=reason, **more)  # type: ignore[arg-type]


HUNG = {"reason": "timeout", "decision": errors.Decision.UNKNOWN, "hung": True}
