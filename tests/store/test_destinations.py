"""Conformance: destinations that are stored, the health of all of them, and what they are owed meanwhile."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest

from relay.domain import health, model
from relay.store import base, destinations
from relay.store.sql import SqlStore, database
from tests.store import making

NOW = making.NOW
LEASE = NOW + 60.0
OPTIONS = model.DestinationOptions(
    statuses=frozenset({model.Change.FAILED, model.Change.LOST}),
    prompt=False,
    schedule=(0.0, 1.5),
    timeout=3.0,
    concurrency=7,
    rate=0.5,
    age_max=600.0,
    retry_after_max=60.0,
)
STORED = destinations.StoredDestination(
    name="renders",
    source=model.Source.API,
    owner=None,
    options=OPTIONS,
    sealed="token",
    created_at=NOW,
    changed_at=NOW,
    used_at=NOW,
)
FAILING = model.Health(
    destination="renders",
    version=1,
    failing_since=NOW,
    failing=("msg_a", "msg_b"),
    warned=50,
    warned_at=NOW + 1,
)
PAUSED = health.paused(model.Health(destination="renders"), now=NOW)


async def read(store: base.Store, delivery: model.NewDelivery) -> model.Delivery:
    found = await store.delivery(delivery.id)
    assert found is not None
    return found


async def states(store: base.Store) -> Counter[tuple[str, str | None]]:
    page = await store.deliveries(base.DeliveryFilter(), before=None, limit=1000)
    return Counter((row.state.value, row.reason) for row in page.rows)


async def test_a_destination_is_read_as_it_was_stored(store: base.Store) -> None:
    inline = dataclasses.replace(
        STORED,
        name="inline_x",
        source=model.Source.INLINE,
        owner="key_a",
        options=model.DestinationOptions(),
    )
    assert await store.destinations() == []
    await store.save_destination(STORED)
    await store.save_destination(inline)
    assert await store.destinations() == [inline, STORED]
    changed = dataclasses.replace(
        STORED, options=model.DestinationOptions(), sealed="other", created_at=NOW + 1, changed_at=NOW + 1
    )
    await store.save_destination(changed)
    assert (await store.destinations())[1] == dataclasses.replace(changed, created_at=NOW)


async def test_what_a_deleted_destination_is_owed_is_held_until_it_is_back(store: base.Store) -> None:
    assert not await store.delete_destination("renders")
    await store.save_destination(STORED)
    pending = making.delivery(None)
    paused = dataclasses.replace(making.delivery(None, status="s1"), held=model.HoldReason.PAUSED)
    sending = making.delivery(None, status="s2", leased_until=LEASE)
    other = making.delivery(None, "other")
    await store.add_deliveries([pending, paused, sending, other])
    await store.pause(PAUSED)
    assert await store.delete_destination("renders")
    assert await store.destinations() == []
    assert await store.healths() == []
    for delivery in (pending, paused):
        found = await read(store, delivery)
        assert (found.state, found.reason, found.next_attempt_at) == ("held", "destination_missing", None)
    assert (await read(store, sending)).state is model.DeliveryState.SENDING
    assert (await read(store, other)).state is model.DeliveryState.PENDING
    assert await store.hold_unconfigured(["renders", "other"], now=NOW + 9) == (0, 2)


async def test_a_new_destination_begins_without_its_namesakes_health(store: base.Store) -> None:
    await store.pause(dataclasses.replace(PAUSED, version=9))
    await store.save_destination(STORED)
    assert await store.healths() == []
    await store.pause(PAUSED)
    await store.save_destination(STORED)
    assert await store.healths() == [PAUSED]


async def test_those_that_are_back_are_released_apart(store: base.Store) -> None:
    made = [making.delivery(None, f"d{n % 2}", status=f"s{n}", created_at=NOW - n) for n in range(6)]
    await store.add_deliveries(made)
    assert await store.hold_unconfigured([], now=NOW) == (6, 0)
    assert await store.hold_unconfigured(["d0", "d1"], now=NOW, rate=2.0) == (0, 6)
    due = [(await read(store, delivery)).next_attempt_at for delivery in made]
    assert due == [NOW + 1.0, NOW + 1.0, NOW + 0.5, NOW + 0.5, NOW, NOW]


async def test_one_that_is_back_is_released_alone(store: base.Store) -> None:
    made = [making.delivery(None, status=f"s{n}", created_at=NOW - n) for n in range(3)]
    other = making.delivery(None, "other")
    paused = dataclasses.replace(making.delivery(None, status="p"), held=model.HoldReason.PAUSED)
    await store.add_deliveries([*made, other, paused])
    await store.hold_unconfigured([], now=NOW)
    assert await store.release_missing("renders", now=NOW + 9, rate=2.0) == 3
    assert await store.release_missing("renders", now=NOW + 9, rate=2.0) == 0
    assert [(await read(store, one)).next_attempt_at for one in made] == [NOW + 10, NOW + 9.5, NOW + 9]
    assert await states(store) == {
        ("pending", None): 3,
        ("held", "destination_missing"): 1,
        ("held", "paused"): 1,
    }


async def test_inline_destinations_go_when_nobody_named_them_for_long(store: base.Store) -> None:
    names = ["inline_a", "inline_b", "inline_c", "inline_d"]
    for age, name in enumerate(names):
        made = dataclasses.replace(
            STORED, name=name, source=model.Source.INLINE, owner="key_a", used_at=NOW - 100 + age
        )
        await store.save_destination(made)
    await store.save_destination(dataclasses.replace(STORED, used_at=NOW - 1000))
    await store.add_deliveries([making.delivery(None, "inline_a")])
    await store.pause(dataclasses.replace(PAUSED, destination="inline_c"))
    await store.touch_destinations(["inline_b", "unknown"], now=NOW)
    await store.touch_destinations(["inline_b"], now=NOW - 500)
    await store.touch_destinations([], now=NOW)
    assert await store.purge_inline(NOW, limit=1) == ["inline_c"]
    assert await store.purge_inline(NOW, limit=10) == ["inline_d"]
    assert [one.name for one in await store.destinations()] == ["inline_a", "inline_b", "renders"]
    assert await store.healths() == []


async def test_nothing_is_looked_through_for_a_name_that_is_new(store: SqlStore) -> None:
    """Callers name new URLs all day, and much may be held for others meanwhile."""
    await store.add_deliveries([making.delivery(None, "other")])
    await store.hold_unconfigured([], now=NOW)

    class Unwritten:
        """The same database, which nobody may write to."""

        read = store._database.read

        async def transact(self, work: object) -> object:
            raise AssertionError("a statement on all that is held")

    unwritten = SqlStore(cast(database.Database, Unwritten()))
    assert await unwritten.release_missing("renders", now=NOW, rate=2.0) == 0
    with pytest.raises(AssertionError, match="all that is held"):
        await unwritten.release_missing("other", now=NOW, rate=2.0)


async def test_strays_are_released_only_where_nothing_is_paused(store: base.Store) -> None:
    held = [
        dataclasses.replace(making.delivery(None, status=reason), held=reason) for reason in model.HoldReason
    ]
    other = dataclasses.replace(making.delivery(None, "other"), held=model.HoldReason.PAUSED)
    await store.add_deliveries([*held, other])
    await store.pause(PAUSED)
    assert await store.release_strays("renders", now=NOW, rate=2.0) == 0
    await store.resume(health.resumed(PAUSED), which=destinations.Which.ALL, now=NOW, rate=1.0)
    late = [
        dataclasses.replace(making.delivery(None, status=f"late{n}", created_at=NOW - n), held=reason)
        for n, reason in enumerate([model.HoldReason.PAUSED, model.HoldReason.DESTINATION_MISSING])
    ]
    await store.add_deliveries(late)
    assert await store.release_strays("renders", now=NOW, rate=2.0) == 2
    found = [await read(store, one) for one in late]
    assert [(one.state, one.reason) for one in found] == [("pending", None)] * 2
    assert [one.next_attempt_at for one in found] == [NOW + 0.5, NOW], "oldest first, at the rate"
    assert (await read(store, other)).state is model.DeliveryState.HELD


async def test_an_inline_destination_stays_while_a_running_task_will_owe_it_something(
    store: base.Store,
) -> None:
    inline = dataclasses.replace(STORED, name="inline_a", source=model.Source.INLINE, owner="key_a")
    await store.save_destination(inline)
    write = making.new("t", register=making.registration(notify=("renders", "inline_a")))
    await store.record([write])
    assert await store.purge_inline(NOW + 1000, limit=10) == []
    await store.record([making.end(write.task)])
    assert await store.purge_inline(NOW + 1000, limit=10) == ["inline_a"]


async def test_a_destination_that_is_stored_again_was_used_when_it_was_used(store: base.Store) -> None:
    await store.save_destination(STORED)
    await store.touch_destinations(["renders"], now=NOW + 500)
    await store.save_destination(dataclasses.replace(STORED, sealed="anew"))
    [kept] = await store.destinations()
    assert (kept.sealed, kept.used_at) == ("anew", NOW + 500)


async def test_one_that_takes_the_name_of_a_configured_one_takes_what_that_one_was_owed(
    store: base.Store,
) -> None:
    await store.add_deliveries([making.delivery(None)])
    await store.pause(PAUSED)
    await store.save_destination(STORED)
    assert await store.healths() == []
    assert await states(store) == {("held", "destination_missing"): 1}
    await store.pause(PAUSED)
    await store.save_destination(dataclasses.replace(STORED, sealed="anew"))
    assert await store.healths() == [PAUSED], "another version of it is no other destination"


async def test_what_was_enabled_again_in_the_same_batch_is_not_held(store: base.Store) -> None:
    first, second, waiting = (making.delivery(None, status=name) for name in ("a", "b", "c"))
    await store.add_deliveries(
        [dataclasses.replace(one, leased_until=LEASE) for one in (first, second)] + [waiting]
    )
    disabled = health.disabled(model.Health(destination="renders"), reason="http_410", now=NOW).health
    outcomes = [
        making.attempt(first.id, 1, model.Outcome.RETRY, health=disabled, hold=model.HoldReason.DISABLED),
        making.attempt(second.id, 1, model.Outcome.DELIVERED, health=health.enabled(disabled)),
    ]
    await store.record_attempts(outcomes)
    assert (await read(store, waiting)).state is model.DeliveryState.PENDING
    assert [one.disabled_at for one in await store.healths()] == [None]


async def test_pausing_holds_what_is_pending_but_tests(store: base.Store) -> None:
    test = dataclasses.replace(making.delivery(None, status="t"), type="relay.test")
    pending, sending = making.delivery(None), making.delivery(None, status="s2", leased_until=LEASE)
    await store.add_deliveries([pending, sending, test, making.delivery(None, "other")])
    assert await store.pause(PAUSED) == 1
    assert await store.healths() == [PAUSED]
    found = await read(store, pending)
    assert (found.state, found.reason, found.next_attempt_at) == ("held", "paused", None)
    assert await store.due() == {"other": NOW, "renders": NOW}
    assert await states(store) == {("held", "paused"): 1, ("pending", None): 2, ("sending", None): 1}


async def test_an_older_health_is_not_stored(store: base.Store) -> None:
    newer = dataclasses.replace(PAUSED, version=5)
    assert await store.pause(newer) == 0
    await store.add_deliveries([making.delivery(None)])
    with pytest.raises(Exception, match="changed meanwhile"):
        await store.pause(newer)
    with pytest.raises(Exception, match="changed meanwhile"):
        await store.resume(health.resumed(PAUSED), which=destinations.Which.ALL, now=NOW, rate=1.0)
    assert await store.healths() == [newer]
    assert await states(store) == {("pending", None): 1}


async def test_what_slipped_in_is_held(store: base.Store) -> None:
    held = dataclasses.replace(making.delivery(None, status="s1"), held=model.HoldReason.DISABLED)
    await store.add_deliveries([making.delivery(None), held])
    found = await read(store, held)
    assert (found.state, found.reason, found.next_attempt_at) == ("held", "disabled", None)
    assert await store.hold("renders", model.HoldReason.DISABLED) == 1
    assert await store.hold("renders", model.HoldReason.DISABLED) == 0
    assert await states(store) == {("held", "disabled"): 2}
    late = making.attempt(held.id, 1, model.Outcome.DELIVERED)
    assert await store.record_attempts([late]) == [1]


async def owe(store: base.Store) -> list[model.NewDelivery]:
    """Two tasks with several held changes each, and two notices; oldest first."""
    one, two = making.new("one"), making.new("two")
    await store.record([one, two])
    made = [
        making.delivery("one", status="queued", created_at=NOW - 9),
        making.delivery("one", status="processing", created_at=NOW - 8),
        making.delivery("one", status="succeeded", created_at=NOW - 8),
        making.delivery(None, status="s1", created_at=NOW - 7),
        making.delivery("two", status="stalled", created_at=NOW - 6),
        making.delivery(None, status="s2", created_at=NOW - 5),
    ]
    await store.add_deliveries([*made, making.delivery(None, "other")])
    assert await store.pause(PAUSED) == 6
    await store.hold("other", model.HoldReason.PAUSED)
    return made


async def test_resuming_all_releases_the_oldest_first_at_a_pace(store: base.Store) -> None:
    made = await owe(store)
    resumed = health.resumed(PAUSED)
    answer = await store.resume(resumed, which=destinations.Which.ALL, now=NOW, rate=4.0)
    assert answer == destinations.Resumed(released=6)
    assert await store.healths() == [resumed]
    found = [await read(store, delivery) for delivery in made]
    assert {(one.state, one.reason) for one in found} == {("pending", None)}
    assert sorted(one.next_attempt_at or 0 for one in found) == [NOW + place / 4 for place in range(6)]
    assert (found[0].next_attempt_at, found[-1].next_attempt_at) == (NOW, NOW + 1.25)
    assert await states(store) == {("pending", None): 6, ("held", "paused"): 1}


async def test_what_is_released_has_a_fresh_budget(store: base.Store) -> None:
    delivery = making.delivery(None, leased_until=LEASE)
    await store.add_deliveries([delivery])
    unknown = making.attempt(delivery.id, 1, model.Outcome.UNKNOWN)
    await store.record_attempts([unknown])
    await store.pause(PAUSED)
    await store.resume(health.resumed(PAUSED), which=destinations.Which.ALL, now=NOW, rate=1.0)
    found = await read(store, delivery)
    assert (found.attempts_made, found.attempts_base, found.unknowns_made) == (1, 1, 0)


async def test_resuming_the_newest_supersedes_what_came_before_it_in_its_task(store: base.Store) -> None:
    made = await owe(store)
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NEWEST, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(released=4, superseded=2)
    found = [await read(store, delivery) for delivery in made]
    superseded = ("superseded", "newer_told", None)
    assert [(one.state, one.reason, one.next_attempt_at) for one in found] == [
        superseded,
        superseded,
        ("pending", None, NOW),
        ("pending", None, NOW + 1),
        ("pending", None, NOW + 2),
        ("pending", None, NOW + 3),
    ]


async def test_resuming_with_none_leaves_what_was_held_dead_and_redeliverable(store: base.Store) -> None:
    made = await owe(store)
    answer = await store.resume(health.resumed(PAUSED), which=destinations.Which.NONE, now=NOW, rate=1.0)
    assert answer == destinations.Resumed(dropped=6)
    assert await states(store) == {("dead", "not_resumed"): 6, ("held", "paused"): 1}
    again = await store.redeliver(made[0].id, now=NOW)
    assert again is not None
    assert again.state is model.DeliveryState.PENDING


async def test_an_attempt_stores_what_it_did_to_its_destination(store: base.Store) -> None:
    made = [making.delivery(None, status=f"s{n}", leased_until=LEASE) for n in range(3)]
    waiting = making.delivery(None, status="waiting")
    await store.add_deliveries([*made, waiting])
    disabled = health.disabled(FAILING, reason="gone", now=NOW).health
    notice = making.delivery(None, "oncall", status="notice")
    writes = [
        making.attempt(made[0].id, 1, model.Outcome.RETRY, health=FAILING),
        making.attempt(
            made[1].id,
            1,
            model.Outcome.DISABLE,
            state=model.DeliveryState.HELD,
            next_attempt_at=None,
            reason="disabled",
            health=disabled,
            notices=[notice],
            hold=model.HoldReason.DISABLED,
        ),
    ]
    assert await store.record_attempts(writes) == [1, 1]
    assert await store.healths() == [disabled]
    assert await states(store) == {
        ("held", "disabled"): 3,  # the one that disabled, the one that waited, the one to be tried again
        ("sending", None): 1,
        ("pending", None): 1,  # the notice
    }
    [kept] = await store.attempts(made[1].id)
    assert kept.outcome is model.Outcome.DISABLE
    assert await store.record_attempts(writes) == [None, None]


async def test_an_attempt_under_an_old_health_holds_nothing(store: base.Store) -> None:
    made = making.delivery(None, leased_until=LEASE)
    await store.add_deliveries([made, making.delivery(None, status="waiting")])
    disabled = health.disabled(FAILING, reason="gone", now=NOW).health
    resumed = health.resumed(disabled)
    await store.resume(resumed, which=destinations.Which.ALL, now=NOW, rate=1.0)
    late = making.attempt(made.id, 1, model.Outcome.RETRY, health=disabled, hold=model.HoldReason.DISABLED)
    assert await store.record_attempts([late]) == [1]
    assert await store.healths() == [resumed]
    assert {state for state, _ in await states(store)} == {"pending"}


async def test_what_a_peer_said_of_itself_is_kept_although_the_lease_was_lost(store: base.Store) -> None:
    """The delivery goes out again; but who said that it is gone must not be enabled by a restart."""
    made = making.delivery(None, leased_until=LEASE)
    await store.add_deliveries([made])
    notice = making.delivery(None, "oncall", status="notice")
    lost = making.attempt(made.id, 7, model.Outcome.RETRY, health=FAILING, notices=[notice])
    assert await store.record_attempts([lost]) == [None]
    assert await store.healths() == [FAILING]
    assert await store.delivery(notice.id) is not None
    assert await store.attempts(made.id) == []


async def test_an_end_supersedes_what_is_not_told_yet_of_its_task(store: base.Store) -> None:
    write = making.new("t")
    await store.record([write, making.new("other")])
    early = [making.delivery("t", status=status) for status in ("queued", "stalled", "failed")]
    held = dataclasses.replace(making.delivery("t", status="processing"), held=model.HoldReason.PAUSED)
    sending = making.delivery("t", "elsewhere", status="processing", leased_until=LEASE)
    other = making.delivery("other", status="queued")
    await store.add_deliveries([*early, held, sending, other])
    last = making.delivery("t")
    end = dataclasses.replace(making.end(write.task, deliveries=[last]), supersede=True)
    [recorded] = await store.record([end])
    assert recorded == base.Recorded(deliveries=frozenset({last.id}))
    for delivery in (early[0], early[1], held):
        found = await read(store, delivery)
        assert (found.state, found.reason, found.next_attempt_at) == ("superseded", "newer_told", None)
    for delivery in (early[2], other, last):
        assert (await read(store, delivery)).state is model.DeliveryState.PENDING
    assert (await read(store, sending)).state is model.DeliveryState.SENDING


async def _overtaken(store: base.Store, *, destinations: Sequence[str]) -> list[model.NewDelivery]:
    """Deliveries that were being sent while their task ended."""
    write = making.new("t")
    await store.record([write])
    sending = [making.delivery("t", name, status="processing", leased_until=LEASE) for name in destinations]
    await store.add_deliveries(sending)
    await store.record([dataclasses.replace(making.end(write.task), supersede=True)])
    return sending


async def test_what_was_being_sent_at_the_end_is_not_tried_again(store: base.Store) -> None:
    failed, held, dead, arrived = await _overtaken(store, destinations=["a", "b", "c", "d"])
    outcomes = [
        making.attempt(failed.id, 1, model.Outcome.RETRY),
        dataclasses.replace(
            making.attempt(held.id, 1, model.Outcome.RETRY),
            state=model.DeliveryState.HELD,
            next_attempt_at=None,
            delivery_reason="paused",
        ),
        making.attempt(dead.id, 1, model.Outcome.DEAD),
        making.attempt(arrived.id, 1, model.Outcome.DELIVERED),
    ]
    settled = await store.write(outcomes)
    states = ("superseded", "superseded", "dead", "delivered")
    assert settled == [base.Settled(number=1, state=model.DeliveryState(state)) for state in states]
    for delivery in (failed, held):
        found = await read(store, delivery)
        assert (found.state, found.reason, found.next_attempt_at) == ("superseded", "newer_told", None)
    assert [(await read(store, one)).state for one in (dead, arrived)] == ["dead", "delivered"]
    # Whoever asks for one again gets it, failures and all.
    await store.redeliver(failed.id, now=NOW)
    [claim] = await store.claim([base.ClaimRequest(destination="a", limit=5)], now=NOW, leased_until=LEASE)
    await store.record_attempts([making.attempt(failed.id, claim.fence, model.Outcome.RETRY)])
    assert (await read(store, failed)).state is model.DeliveryState.PENDING


@pytest.mark.parametrize("how", ["released", "voided", "expired"])
async def test_a_lease_that_is_taken_back_after_the_end_is_not_owed_again(
    store: base.Store, how: str
) -> None:
    [delivery] = await _overtaken(store, destinations=["a"])
    if how == "released":
        await store.release([(delivery.id, 1)], now=NOW)
    elif how == "voided":
        await store.void_leases(now=NOW)
    else:
        await store.expire_leases(now=LEASE + 1)
    found = await read(store, delivery)
    assert (found.state, found.reason, found.next_attempt_at) == ("superseded", "newer_told", None)


async def test_the_canary_and_what_is_sealed_change_together(store: base.Store) -> None:
    assert await store.canary() is None
    await store.reseal(canary="first", sealed={})
    assert await store.canary() == "first"
    await store.save_destination(STORED)
    await store.save_destination(dataclasses.replace(STORED, name="second"))
    await store.reseal(canary="second", sealed={"renders": "anew", "unknown": "x"})
    assert await store.canary() == "second"
    assert [one.sealed for one in await store.destinations()] == ["anew", "token"]
