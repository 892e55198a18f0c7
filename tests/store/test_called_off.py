"""Conformance: what arrived once stays so when an order to send it again is called off."""

from __future__ import annotations

import dataclasses

import pytest

from relay.domain import health, model
from relay.domain import redelivery as rules
from relay.store import base, destinations
from tests.store import making

NOW = making.NOW
LEASE = NOW + 60.0
PAUSED = health.paused(model.Health(destination="renders"), now=NOW)


async def read(store: base.Store, delivery: model.NewDelivery) -> model.Delivery:
    found = await store.delivery(delivery.id)
    assert found is not None
    return found


async def arrived(store: base.Store, *made: model.NewDelivery) -> None:
    """Deliveries that arrived at their first attempt, a quarter of a second after ``NOW``."""
    await store.add_deliveries([dataclasses.replace(one, leased_until=LEASE) for one in made])
    outcomes = [making.attempt(one.id, 1, model.Outcome.DELIVERED) for one in made]
    assert await store.record_attempts(outcomes) == [1] * len(made)


DELIVERED = ("delivered", None, NOW + 0.25)


async def test_what_arrived_before_is_delivered_again_when_its_redelivery_is_dropped(
    store: base.Store,
) -> None:
    told, owed = making.delivery(None), making.delivery(None, status="s1")
    await arrived(store, told)
    await store.add_deliveries([owed])
    await store.pause(PAUSED)
    again = await store.redeliver(told.id, now=NOW + 9)
    assert again is not None
    assert (again.state, again.reason) == ("held", "paused")
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NONE, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(dropped=1, restored=1)
    found = await read(store, told)
    assert (found.state, found.reason, found.delivered_at) == DELIVERED
    assert (await read(store, owed)).state is model.DeliveryState.DEAD
    # What is dead is told again; this one is none of it, and can be asked for as ever.
    dead, _ = await store.selected(rules.Selection(), before=NOW + 10, sample=10)
    assert dead == 1
    once_more = await store.redeliver(told.id, now=NOW + 10)
    assert once_more is not None
    assert (once_more.state, once_more.attempts_made, once_more.attempts_base) == ("pending", 1, 1)


async def test_what_arrived_before_is_delivered_again_when_a_newer_one_is_told(store: base.Store) -> None:
    await store.record([making.new("one")])
    told = making.delivery("one", status="processing", created_at=NOW - 9)
    untold = making.delivery("one", status="stalled", created_at=NOW - 8)
    newest = making.delivery("one", created_at=NOW - 7)
    await arrived(store, told, newest)
    await store.add_deliveries([untold])
    await store.pause(PAUSED)
    for one in (told, newest):
        await store.redeliver(one.id, now=NOW)
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NEWEST, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(released=1, superseded=1, restored=1)
    found = await read(store, told)
    assert (found.state, found.reason, found.delivered_at) == DELIVERED
    assert (await read(store, untold)).state is model.DeliveryState.SUPERSEDED
    assert (await read(store, newest)).state is model.DeliveryState.PENDING


async def test_the_last_time_that_it_arrived_counts(store: base.Store) -> None:
    told = making.delivery(None)
    await arrived(store, told)
    for fence, outcome in ((2, model.Outcome.DELIVERED), (3, model.Outcome.RETRY)):
        await store.redeliver(told.id, now=NOW)
        await store.claim([base.ClaimRequest(destination="renders", limit=1)], now=NOW, leased_until=LEASE)
        await store.record_attempts([making.attempt(told.id, fence, outcome, started_at=NOW + 10 * fence)])
    await store.pause(PAUSED)
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NONE, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(restored=1)
    found = await read(store, told)
    assert (found.state, found.delivered_at, found.attempts_made) == ("delivered", NOW + 20.25, 3)


async def test_what_is_not_known_to_have_arrived_any_more_is_dropped(store: base.Store) -> None:
    told = making.delivery(None)
    await arrived(store, told)
    await store.pause(PAUSED)
    await store.redeliver(told.id, now=NOW)
    forgotten = base.Retention(tasks_before=0, events_before=0, attempts_before=NOW + 1, submissions_before=0)
    await store.purge(forgotten, limit=10)
    assert await store.attempts(told.id) == []
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NONE, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(dropped=1)
    found = await read(store, told)
    assert (found.state, found.reason, found.delivered_at) == ("dead", "not_resumed", None)


async def test_what_arrived_before_is_delivered_again_when_its_task_ends(store: base.Store) -> None:
    write = making.new("t")
    await store.record([write])
    held, pending = making.delivery("t", status="processing"), making.delivery("t", "other", status="queued")
    await arrived(store, held, pending)
    await store.pause(PAUSED)
    for one in (held, pending):
        await store.redeliver(one.id, now=NOW + 9)
    await store.record([dataclasses.replace(making.end(write.task), supersede=True)])
    for one in (held, pending):
        found = await read(store, one)
        assert (found.state, found.reason, found.delivered_at) == DELIVERED
    assert await store.due() == {}


@pytest.mark.parametrize("how", ["released", "voided", "expired", "failed"])
async def test_what_arrived_before_its_task_ended_stays_so_while_it_is_sent_again(
    store: base.Store, how: str
) -> None:
    write = making.new("t")
    await store.record([write])
    told = making.delivery("t", status="processing")
    await arrived(store, told)
    await store.redeliver(told.id, now=NOW)
    await store.claim([base.ClaimRequest(destination="renders", limit=1)], now=NOW, leased_until=LEASE)
    await store.record([dataclasses.replace(making.end(write.task), supersede=True)])
    if how == "released":
        await store.release([(told.id, 2)], now=NOW)
    elif how == "voided":
        assert await store.void_leases(now=NOW) == 1
    elif how == "expired":
        assert await store.expire_leases(now=LEASE + 1) == 1
    else:
        answer = await store.write([making.attempt(told.id, 2, model.Outcome.RETRY)])
        assert answer == [base.Settled(number=2, state=model.DeliveryState.DELIVERED)]
    found = await read(store, told)
    assert (found.state, found.reason, found.delivered_at) == DELIVERED
