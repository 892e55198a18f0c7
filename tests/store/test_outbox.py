"""Conformance: claims, fences, leases, attempts, and what becomes of a delivery."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from relay.domain import errors, model
from relay.store import base
from tests.store import making

NOW = making.NOW
LEASE = NOW + 60.0


@pytest.fixture
async def owed(store: base.Store) -> model.NewDelivery:
    """One delivery of an ended task, pending."""
    write = making.new("t")
    delivery = making.delivery("t")
    await store.record([write])
    await store.record([making.end(write.task, deliveries=[delivery])])
    return delivery


async def claim(
    store: base.Store, *destinations: str, now: float = NOW, limit: int = 10
) -> list[model.Claim]:
    wanted = [base.ClaimRequest(destination=name, limit=limit) for name in destinations or ("renders",)]
    return await store.claim(wanted, now=now, leased_until=now + 60.0)


async def read(store: base.Store, delivery: model.NewDelivery) -> model.Delivery:
    found = await store.delivery(delivery.id)
    assert found is not None
    return found


async def test_a_claim_has_all_that_sending_needs(store: base.Store, owed: model.NewDelivery) -> None:
    claims = await claim(store)
    assert claims == [
        model.Claim(
            delivery_id=owed.id,
            destination="renders",
            type="task.succeeded",
            format=owed.notification.format,
            body=owed.notification.body,
            fence=1,
            attempts_made=0,
            attempts_base=0,
            unknowns_made=0,
            created_at=NOW,
            task_id="t",
            upstream=making.UPSTREAM,
        )
    ]
    assert await claim(store) == []
    assert (await read(store, owed)).state is model.DeliveryState.SENDING


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_claim_names_its_task_or_none(
    store: base.Store, owed: model.NewDelivery, fresh: bool
) -> None:
    """Each of the two statements that find what is due."""
    notice = making.delivery(None)
    await store.add_deliveries([notice])
    wanted = base.ClaimRequest(destination="renders", limit=0 if fresh else 2, fresh=2 if fresh else 0)
    found = await store.claim([wanted], now=NOW, leased_until=LEASE)
    assert {one.delivery_id: (one.task_id, one.upstream) for one in found} == {
        owed.id: ("t", making.UPSTREAM),
        notice.id: (None, None),
    }


async def test_only_what_is_due_is_claimed_oldest_first(store: base.Store) -> None:
    made = [
        making.delivery(None, f"d{number % 2}", status=f"s{number}", created_at=NOW - number)
        for number in range(6)
    ]
    future = making.delivery(None, "d0", status="later", created_at=NOW + 1)
    await store.add_deliveries([*made, future])
    claims = await claim(store, "d0", "d1", "nowhere", limit=2)
    assert [claim.delivery_id for claim in claims] == [made[4].id, made[2].id, made[5].id, made[3].id]
    assert [claim.delivery_id for claim in await claim(store, "d0", "d0")] == [made[0].id]
    assert await claim(store, "d0") == []
    assert [claim.delivery_id for claim in await claim(store, "d0", now=NOW + 1)] == [future.id]
    assert await store.claim([], now=NOW, leased_until=LEASE) == []


async def test_two_claimers_never_get_one_delivery(store: base.Store) -> None:
    made = [making.delivery(None, "renders", status=f"s{number}") for number in range(40)]
    await store.add_deliveries(made)
    batches = await asyncio.gather(*(claim(store, limit=7) for _ in range(8)))
    claimed = [claim.delivery_id for batch in batches for claim in batch]
    assert sorted(claimed) == sorted(delivery.id for delivery in made)


async def test_a_delivery_may_be_stored_already_leased(store: base.Store) -> None:
    leased = making.delivery(None, leased_until=LEASE)
    await store.add_deliveries([leased])
    assert await claim(store) == []
    attempt = making.attempt(leased.id, 1, model.Outcome.DELIVERED)
    assert await store.record_attempts([attempt]) == [1]
    found = await read(store, leased)
    assert (found.state, found.delivered_at) == (model.DeliveryState.DELIVERED, NOW + 0.25)


async def test_a_retry_makes_it_pending_and_counts(store: base.Store, owed: model.NewDelivery) -> None:
    await claim(store)
    retry = making.attempt(owed.id, 1, model.Outcome.RETRY, detail="upstream said no")
    assert await store.record_attempts([retry]) == [1]
    found = await read(store, owed)
    assert (found.state, found.attempts_made, found.next_attempt_at) == ("pending", 1, NOW + 60)
    assert found.reason == "http_status"
    assert await claim(store, now=NOW + 59) == []
    assert [claim.fence for claim in await claim(store, now=NOW + 60)] == [2]
    unknown = making.attempt(owed.id, 2, model.Outcome.UNKNOWN)
    assert await store.record_attempts([unknown]) == [2]
    (third,) = await claim(store, now=NOW + 60)
    assert (third.attempts_made, third.unknowns_made) == (2, 1)
    assert await store.record_attempts([making.attempt(owed.id, 3, model.Outcome.DELIVERED)]) == [3]
    assert [(kept.number, kept.outcome, kept.status_code) for kept in await store.attempts(owed.id)] == [
        (1, model.Outcome.RETRY, 500),
        (2, model.Outcome.UNKNOWN, 500),
        (3, model.Outcome.DELIVERED, 200),
    ]
    assert (await store.attempts(owed.id))[0] == model.Attempt(
        delivery_id=owed.id,
        number=1,
        started_at=NOW,
        duration_ms=250.0,
        outcome=model.Outcome.RETRY,
        reason="http_status",
        status_code=500,
        detail="upstream said no",
    )


@pytest.mark.parametrize("outcome", [model.Outcome.RETRY, model.Outcome.DEAD, model.Outcome.UNKNOWN])
async def test_a_lost_lease_records_nothing_but_success(
    store: base.Store, owed: model.NewDelivery, outcome: model.Outcome
) -> None:
    await claim(store)
    assert await store.expire_leases(now=LEASE) == 1
    assert await store.record_attempts([making.attempt(owed.id, 1, outcome)]) == [None]
    await claim(store, now=LEASE)
    assert await store.record_attempts([making.attempt(owed.id, 1, outcome)]) == [None]
    assert await store.attempts(owed.id) == []
    assert await store.record_attempts([making.attempt(owed.id, 2, outcome)]) == [1]


@pytest.mark.parametrize("state", ["pending", "sending", "held", "dead", "delivered"])
async def test_a_success_is_recorded_whatever_became_of_it(
    store: base.Store, owed: model.NewDelivery, state: str
) -> None:
    await claim(store)
    await store.expire_leases(now=LEASE)
    if state == "held":
        await store.hold_unconfigured([], now=LEASE)
    elif state != "pending":
        await claim(store, now=LEASE)
    if state in ("dead", "delivered"):
        await store.record_attempts([making.attempt(owed.id, 2, model.Outcome(state))])
    assert (await read(store, owed)).state == state
    before = len(await store.attempts(owed.id))
    late = making.attempt(owed.id, 1, model.Outcome.DELIVERED, started_at=NOW + 500)
    assert await store.record_attempts([late]) == [before + 1]
    found = await read(store, owed)
    assert found.state is model.DeliveryState.DELIVERED
    assert found.reason is None
    assert found.delivered_at == (NOW if state == "delivered" else NOW + 500) + 0.25


async def test_a_lease_of_what_is_still_in_flight_does_not_expire(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    assert await store.expire_leases(now=LEASE, sparing=[owed.id, "msg_unknown"]) == 0
    assert (await read(store, owed)).state is model.DeliveryState.SENDING
    assert await store.expire_leases(now=LEASE, sparing=["msg_unknown"]) == 1


async def test_outcomes_of_one_delivery_in_one_call_apply_in_order(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    await store.expire_leases(now=LEASE)
    await claim(store, now=LEASE)
    late_success = making.attempt(owed.id, 1, model.Outcome.DELIVERED)
    own_failure = making.attempt(owed.id, 2, model.Outcome.RETRY)
    stranger = making.attempt("msg_unknown", 1, model.Outcome.DELIVERED)
    assert await store.record_attempts([late_success, stranger, own_failure]) == [1, None, None]
    assert await store.record_attempts([late_success, late_success]) == [2, 3]
    assert await store.record_attempts([]) == []


async def test_a_bad_outcome_fails_alone(store: base.Store, owed: model.NewDelivery) -> None:
    others = [making.delivery(None, status=f"s{number}", leased_until=LEASE) for number in range(2)]
    await store.add_deliveries(others)
    await claim(store)
    bad = making.attempt(owed.id, 1, model.Outcome.RETRY, next_attempt_at=None)
    good = [making.attempt(other.id, 1, model.Outcome.DELIVERED) for other in others]
    answers = await store.record_attempts([good[0], bad, good[1]])
    assert isinstance(answers[1], errors.StoreRejected)
    assert (answers[0], answers[2]) == (1, 1)
    assert (await read(store, owed)).state is model.DeliveryState.SENDING
    assert await store.attempts(owed.id) == []


async def test_a_released_lease_is_due_again_and_not_counted(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    await store.release([(owed.id, 7), ("msg_unknown", 1)], now=NOW + 5)
    assert (await read(store, owed)).state is model.DeliveryState.SENDING
    await store.release([(owed.id, 1)], now=NOW + 5)
    found = await read(store, owed)
    assert (found.state, found.next_attempt_at, found.attempts_made) == ("pending", NOW + 5, 0)
    assert [claim.fence for claim in await claim(store, now=NOW + 5)] == [2]
    await store.release([], now=NOW)


async def test_what_was_never_attempted_may_be_claimed_past_what_was(store: base.Store) -> None:
    made = [making.delivery(None, status=f"s{number}", created_at=NOW + number) for number in range(6)]
    await store.add_deliveries(made)
    tried = await claim(store, limit=3, now=NOW + 2)
    retries = [
        making.attempt(one.delivery_id, one.fence, model.Outcome.RETRY, next_attempt_at=NOW) for one in tried
    ]
    await store.record_attempts(retries)

    async def claimed(limit: int, fresh: int) -> list[str]:
        wanted = [base.ClaimRequest(destination="renders", limit=limit, fresh=fresh)]
        found = await store.claim(wanted, now=NOW + 9, leased_until=NOW + 60)
        await store.release([(one.delivery_id, one.fence) for one in found], now=NOW)
        return [one.delivery_id for one in found]

    ids = [one.id for one in made]
    assert await claimed(0, 1) == [ids[3]]
    # What was given back is due since NOW, as the retries are; equal instants go by id.
    assert set(await claimed(6, 2)) == set(ids)
    assert len(await claimed(2, 5)) == 5, "those that were found as fresh are not found again"
    assert len(await claimed(1, 0)) == 1


async def test_a_lease_that_is_given_up_ends_its_delivery_without_an_attempt(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    await store.give_up([(owed.id, 7)], reason="too_old")
    assert (await read(store, owed)).state is model.DeliveryState.SENDING
    await store.give_up([(owed.id, 1)], reason="too_old")
    found = await read(store, owed)
    assert (found.state, found.reason, found.attempts_made) == ("dead", "too_old", 0)
    assert await store.attempts(owed.id) == []
    await store.give_up([], reason="too_old")


async def test_what_arrived_before_is_delivered_again_when_it_is_given_up_untried(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    await store.record_attempts([making.attempt(owed.id, 1, model.Outcome.DELIVERED)])
    await store.redeliver(owed.id, now=NOW)
    await claim(store)
    await store.give_up([(owed.id, 2)], reason="too_old")
    found = await read(store, owed)
    assert (found.state, found.reason, found.delivered_at) == ("delivered", None, NOW + 0.25)
    # One that was tried again, in vain, is dead: that is what became of the last order to send it.
    await store.redeliver(owed.id, now=NOW)
    await claim(store)
    await store.record_attempts([making.attempt(owed.id, 3, model.Outcome.RETRY)])
    await claim(store, now=NOW + 60)
    await store.give_up([(owed.id, 4)], reason="too_old")
    found = await read(store, owed)
    assert (found.state, found.reason, found.delivered_at) == ("dead", "too_old", None)
    assert [one.outcome.value for one in await store.attempts(owed.id)] == ["delivered", "retry"]


async def test_a_delivery_may_stand_for_another_reason_than_its_attempt_failed(
    store: base.Store, owed: model.NewDelivery
) -> None:
    await claim(store)
    held = making.attempt(
        owed.id,
        1,
        model.Outcome.RETRY,
        state=model.DeliveryState.HELD,
        next_attempt_at=None,
        delivery_reason="paused",
    )
    assert await store.record_attempts([held]) == [1]
    assert (await read(store, owed)).reason == "paused"
    assert [one.reason for one in await store.attempts(owed.id)] == ["http_status"]


async def test_leases_are_voided_and_expire(store: base.Store) -> None:
    made = [making.delivery(None, status=f"s{number}", leased_until=NOW + number) for number in range(3)]
    await store.add_deliveries(made)
    assert await store.expire_leases(now=NOW + 1) == 2
    assert await store.void_leases(now=NOW + 2) == 1
    assert await store.void_leases(now=NOW + 2) == 0
    due = sorted((await claim(store, now=NOW + 2)), key=lambda claim: claim.delivery_id)
    assert [(claim.delivery_id, claim.fence) for claim in due] == sorted((row.id, 2) for row in made)


async def test_due_names_each_destination_with_its_earliest(store: base.Store) -> None:
    assert await store.due() == {}
    made = [
        making.delivery(None, name, status=f"s{number}", created_at=NOW + number)
        for name in ("a", "b", "c")
        for number in (3, 1, 2)
    ]
    await store.add_deliveries([*made, making.delivery(None, "d", leased_until=LEASE)])
    assert await store.due() == {"a": NOW + 1, "b": NOW + 1, "c": NOW + 1}
    await claim(store, "b", now=NOW + 2)
    assert await store.due() == {"a": NOW + 1, "b": NOW + 3, "c": NOW + 1}


async def test_unconfigured_destinations_are_held_until_they_are_back(store: base.Store) -> None:
    made = [making.delivery(None, name, leased_until=None) for name in ("a", "b", "c")]
    sending = making.delivery(None, "c", status="now", leased_until=LEASE)
    await store.add_deliveries([*made, sending])
    assert await store.hold_unconfigured(["a"], now=NOW) == (2, 0)
    assert await store.hold_unconfigured(["a"], now=NOW) == (0, 0)
    held = await read(store, made[1])
    assert (held.state, held.reason, held.next_attempt_at) == ("held", "destination_missing", None)
    assert (await read(store, sending)).state is model.DeliveryState.SENDING
    assert await store.hold_unconfigured(["b", "c"], now=NOW + 9) == (1, 2)
    back = await read(store, made[1])
    assert (back.state, back.reason, back.next_attempt_at) == ("pending", None, NOW + 9)


async def test_redeliver_gives_a_fresh_budget(store: base.Store, owed: model.NewDelivery) -> None:
    assert await store.redeliver("msg_unknown", now=NOW) is None
    await claim(store)
    sending = await store.redeliver(owed.id, now=NOW)
    assert sending is not None
    assert sending.state is model.DeliveryState.SENDING
    unknown = making.attempt(owed.id, 1, model.Outcome.UNKNOWN, state=model.DeliveryState.DEAD)
    await store.record_attempts([dataclasses.replace(unknown, next_attempt_at=None)])
    again = await store.redeliver(owed.id, now=NOW + 100)
    assert again is not None
    assert (again.state, again.next_attempt_at, again.reason) == ("pending", NOW + 100, None)
    assert (again.attempts_made, again.attempts_base, again.unknowns_made) == (1, 1, 0)
    (claimed,) = await claim(store, now=NOW + 100)
    assert await store.record_attempts([making.attempt(owed.id, claimed.fence, model.Outcome.DELIVERED)]) == [
        2
    ]
    twice = await store.redeliver(owed.id, now=NOW + 200)
    assert twice is not None
    assert (twice.state, twice.delivered_at) == ("pending", None)


async def test_a_body_is_stored_once_and_sent_byte_for_byte(store: base.Store) -> None:
    body = '{"text":"é 火 🐈 \\u0000 \\\\u0000 \\"\\n"}\n'.encode()
    first = making.delivery(None, "a")
    shared = dataclasses.replace(first.notification, body=body)
    await store.add_deliveries(
        [
            dataclasses.replace(first, notification=shared),
            dataclasses.replace(making.delivery(None, "b"), notification=shared),
        ]
    )
    assert [claim.body for claim in await claim(store, "a", "b")] == [body, body]


async def test_a_delivery_of_an_unknown_task_is_refused(store: base.Store) -> None:
    with pytest.raises(errors.StoreRejected):
        await store.add_deliveries([making.delivery("unknown")])


async def test_a_clock_that_was_set_back_brings_due_times_and_leases_forward(store: base.Store) -> None:
    waiting, leased = making.delivery(None, "a"), making.delivery(None, "b", leased_until=making.NOW + 60)
    await store.add_deliveries([waiting, leased])
    assert await store.shift_due(seconds=100) == 2
    assert await store.due() == {"a": making.NOW - 100}
    assert await store.expire_leases(now=making.NOW - 41) == 0
    assert await store.expire_leases(now=making.NOW - 40) == 1
