"""Conformance: redeliveries, what they select, and a batch with its position in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from relay.domain import errors, health, model
from relay.domain import redelivery as rules
from relay.domain.redelivery import Action, State
from relay.store import base
from relay.store.sql import SqlStore, redeliveries
from tests.store import making

NOW = making.NOW
MADE_AT = NOW + 1000.0
FAR = NOW + 1e6
DEAD = model.DeliveryState.DEAD
KNOWN = ("renders", "other")


async def dead(store: base.Store, *made: model.NewDelivery, attempts: int = 1) -> Sequence[model.NewDelivery]:
    """Deliveries that were tried ``attempts`` times and given up."""
    await store.add_deliveries(made)
    for number in range(attempts):
        names = sorted({each.destination for each in made})
        claims = await store.claim(
            [base.ClaimRequest(destination=name, limit=1000) for name in names], now=FAR, leased_until=FAR
        )
        outcome = model.Outcome.DEAD if number == attempts - 1 else model.Outcome.UNKNOWN
        await store.record_attempts(
            [making.attempt(claim.delivery_id, claim.fence, outcome, reason="http_503") for claim in claims]
        )
    return made


def several(count: int, destination: str = "renders", *, start: int = 0) -> list[model.NewDelivery]:
    return [
        making.delivery(None, destination, status=f"s{number}", created_at=NOW + number)
        for number in range(start, start + count)
    ]


def preview(**changes: object) -> rules.Redelivery:
    one = rules.Redelivery(
        id="rdl_a",
        selection=rules.Selection(destination="renders"),
        count=7,
        created_by="key_a",
        created_at=MADE_AT,
        changed_at=MADE_AT,
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


async def running(store: base.Store, selection: rules.Selection, **changes: object) -> rules.Redelivery:
    count, _ = await store.selected(selection, before=MADE_AT, sample=10)
    made = preview(selection=selection, count=count, **changes)
    await store.add_redelivery(made)
    changed = await store.change_redelivery(made.id, Action.RUN, rate=None, now=MADE_AT)
    assert changed is not None
    return changed


def turn(limit: int = 100) -> rules.Turn:
    return rules.Turn(start=MADE_AT, pause=0.5, limit=limit)


async def read(store: base.Store, delivery: model.NewDelivery) -> model.Delivery:
    found = await store.delivery(delivery.id)
    assert found is not None
    return found


async def to_the_end(store: base.Store, one: rules.Redelivery, *, limit: int = 100) -> rules.Redelivery:
    for _ in range(200):
        advanced = await store.advance_redelivery(one, turn(limit), known=KNOWN, now=MADE_AT)
        assert advanced is not None
        one = advanced.redelivery
        if one.state.ended:
            return one
    raise AssertionError("it never ends")


# -- rows ------------------------------------------------------------------------------------------


async def test_it_is_read_as_it_was_stored(store: base.Store) -> None:
    whole = rules.Selection(
        state=model.DeliveryState.HELD,
        destination="renders",
        reason="http_503",
        type="task.failed",
        task="tsk_a",
        reference="mindvideo:a",
        created_after=NOW,
        created_before=NOW + 1,
    )
    one, two = preview(selection=whole, rate=2.5), preview(id="rdl_b", created_at=MADE_AT + 1)
    await store.add_redelivery(one)
    await store.add_redelivery(two)
    assert await store.redelivery("rdl_a") == one
    assert await store.redelivery("rdl_none") is None
    first = await store.redeliveries(None, before=None, limit=1)
    assert (first.rows, first.next) == ([two], (two.created_at, two.id))
    second = await store.redeliveries(None, before=first.next, limit=1)
    assert (second.rows, second.next) == ([one], None)
    assert (await store.redeliveries(State.RUNNING, before=None, limit=9)).rows == []
    assert await store.running_redeliveries() == []
    changed = await store.change_redelivery("rdl_b", Action.RUN, rate=3.0, now=MADE_AT + 2)
    assert changed == dataclasses.replace(two, state=State.RUNNING, rate=3.0, changed_at=MADE_AT + 2)
    assert await store.running_redeliveries() == [changed]
    assert (await store.redeliveries(State.RUNNING, before=None, limit=9)).rows == [changed]
    assert await store.count_redeliveries() == {State.PREVIEW: 1, State.RUNNING: 1}


async def test_a_change_that_its_state_does_not_allow_changes_nothing(store: base.Store) -> None:
    one = preview()
    await store.add_redelivery(one)
    with pytest.raises(errors.WrongState, match="is preview"):
        await store.change_redelivery("rdl_a", Action.PAUSE, rate=None, now=MADE_AT)
    assert await store.redelivery("rdl_a") == one
    assert await store.change_redelivery("rdl_none", Action.RUN, rate=None, now=MADE_AT) is None


@pytest.mark.parametrize(
    "change",
    [
        "state = 'waiting'",
        "state = 'done'",
        "state = 'cancelled'",
        "state = 'done', finished_at = 1, done = 3",
        "finished_at = 1",
        "done = 1",
        "state = 'running', position_at = 1",
        "state = 'running', done = -1",
        "rate = 0",
    ],
)
async def test_the_schema_knows_the_states_too(store: SqlStore, change: str) -> None:
    await store.add_redelivery(preview())
    statement = f"UPDATE redeliveries SET {change} WHERE id = 'rdl_a'"
    with pytest.raises(errors.StoreRejected, match="CHECK"):
        await store._database.transact(lambda transaction: transaction.fetch(statement, {}))


async def test_previews_go_after_a_day_and_what_ended_after_its_time(store: base.Store) -> None:
    for name, at in (("old", NOW), ("new", NOW + 50), ("run", NOW), ("end", NOW), ("late", NOW)):
        await store.add_redelivery(preview(id=f"rdl_{name}", created_at=at, changed_at=at))
    await store.change_redelivery("rdl_run", Action.RUN, rate=None, now=NOW)
    await store.change_redelivery("rdl_end", Action.CANCEL, rate=None, now=NOW + 10)
    await store.change_redelivery("rdl_late", Action.CANCEL, rate=None, now=NOW + 60)
    assert await store.purge_redeliveries(previews_before=NOW + 50, ended_before=NOW + 60, limit=10) == 2
    left = await store.redeliveries(None, before=None, limit=10)
    assert {one.id for one in left.rows} == {"rdl_new", "rdl_run", "rdl_late"}


# -- what is selected ------------------------------------------------------------------------------


async def test_each_filter_selects(store: base.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeliveries, "CHUNK", 3)
    write = making.new("t")
    await store.record([write])
    await dead(store, *several(8), *several(4, "other", start=2), making.delivery("t", created_at=NOW + 3.5))
    await store.add_deliveries(several(2, start=20))
    expected = {
        rules.Selection(): 13,
        rules.Selection(destination="renders"): 9,
        rules.Selection(destination="other"): 4,
        rules.Selection(task=write.task.id): 1,
        rules.Selection(type="task.s3"): 2,
        rules.Selection(reason="http_503", destination="other"): 4,
        rules.Selection(reason="timeout"): 0,
        rules.Selection(created_after=NOW + 5): 4,
        rules.Selection(created_before=NOW + 2): 2,
        rules.Selection(created_after=NOW + 2, created_before=NOW + 4, destination="renders"): 3,
        rules.Selection(state=model.DeliveryState.DELIVERED): 0,
        rules.Selection(state=model.DeliveryState.SUPERSEDED, destination="renders"): 0,
    }
    for made, (selection, count) in enumerate(expected.items()):
        found, sample = await store.selected(selection, before=MADE_AT, sample=4)
        assert (found, len(sample)) == (count, min(4, count)), selection
        assert all(each.state is DEAD for each in sample)
        positions = [(each.created_at, each.id) for each in sample]
        assert positions == sorted(positions)
        ended = await to_the_end(store, await running(store, selection, id=f"rdl_{made}"), limit=2)
        assert (ended.count, ended.done, ended.skipped) == (count, count, 0)
        await die_again(store)


async def die_again(store: base.Store) -> None:
    """What was redelivered is tried once and given up again; what was never tried goes back."""
    wanted = [base.ClaimRequest(destination=name, limit=1000) for name in KNOWN]
    claims = await store.claim(wanted, now=FAR, leased_until=FAR)
    fresh = [(claim.delivery_id, claim.fence) for claim in claims if not claim.attempts_made]
    await store.release(fresh, now=MADE_AT)
    outcomes = [
        making.attempt(claim.delivery_id, claim.fence, model.Outcome.DEAD, reason="http_503")
        for claim in claims
        if claim.attempts_made
    ]
    await store.record_attempts(outcomes)


async def test_one_that_selects_nothing_is_done_at_once(store: base.Store) -> None:
    ended = await to_the_end(store, await running(store, rules.Selection(created_after=NOW)))
    assert (ended.state, ended.count, ended.position) == (State.DONE, 0, None)
    assert await store.redelivery(ended.id) == ended


async def test_only_what_was_there_before_it_is_selected(store: base.Store) -> None:
    await dead(store, *several(2))
    late = making.delivery(None, created_at=MADE_AT)
    await dead(store, late)
    one = await to_the_end(store, await running(store, rules.Selection()))
    assert (one.count, one.done) == (2, 2)
    assert (await read(store, late)).state is DEAD


# -- a batch ---------------------------------------------------------------------------------------


async def test_a_batch_is_due_apart_with_a_fresh_budget_oldest_first(store: base.Store) -> None:
    made = await dead(store, *several(5), attempts=2)
    one = await running(store, rules.Selection(destination="renders"))
    advanced = await store.advance_redelivery(one, turn(3), known=KNOWN, now=MADE_AT)
    assert advanced is not None
    assert (advanced.moved, advanced.due) == (3, {"renders": MADE_AT})
    stands = advanced.redelivery
    assert (stands.state, stands.done, stands.skipped, stands.count) == (State.RUNNING, 3, 0, 5)
    assert (stands.position, stands.paced_until) == ((NOW + 2, made[2].id), MADE_AT + 1.5)
    assert await store.redelivery(one.id) == stands
    for place, delivery in enumerate(made[:3]):
        found = await read(store, delivery)
        assert (found.state, found.reason) == ("pending", None)
        assert found.next_attempt_at == MADE_AT + place * 0.5
        assert (found.attempts_made, found.attempts_base, found.unknowns_made) == (2, 2, 0)
    assert [(await read(store, each)).state for each in made[3:]] == [DEAD, DEAD]
    [first, *_] = await store.claim(
        [base.ClaimRequest(destination="renders", limit=1)], now=MADE_AT, leased_until=MADE_AT + 60
    )
    await store.record_attempts([making.attempt(first.delivery_id, first.fence, model.Outcome.DELIVERED)])
    assert [each.number for each in await store.attempts(made[0].id)] == [1, 2, 3]
    ended = await to_the_end(store, stands)
    assert (ended.state, ended.done, ended.finished_at) == (State.DONE, 5, MADE_AT)


async def test_a_batch_of_one_that_is_no_longer_there_moves_nothing(store: base.Store) -> None:
    made = await dead(store, *several(4))
    one = await running(store, rules.Selection())
    advanced = await store.advance_redelivery(one, turn(2), known=KNOWN, now=MADE_AT)
    assert advanced is not None
    assert await store.advance_redelivery(one, turn(2), known=KNOWN, now=MADE_AT) is None  # that batch again
    await store.change_redelivery(one.id, Action.PAUSE, rate=None, now=MADE_AT)
    assert await store.advance_redelivery(advanced.redelivery, turn(2), known=KNOWN, now=MADE_AT) is None
    assert [(await read(store, each)).state for each in made] == ["pending", "pending", "dead", "dead"]
    resumed = await store.change_redelivery(one.id, Action.RUN, rate=None, now=MADE_AT)
    assert resumed is not None
    assert (await to_the_end(store, resumed)).done == 4
    gone = preview(id="rdl_gone", state=State.RUNNING)
    assert await store.advance_redelivery(gone, turn(), known=KNOWN, now=MADE_AT) is None


async def test_what_left_the_state_meanwhile_is_skipped(store: base.Store) -> None:
    made = await dead(store, *several(4))
    one = await running(store, rules.Selection())
    await store.redeliver(made[0].id, now=MADE_AT)
    await store.redeliver(made[2].id, now=MADE_AT)
    [claim] = await store.claim(
        [base.ClaimRequest(destination="renders", limit=1)], now=MADE_AT, leased_until=MADE_AT + 60
    )
    ended = await to_the_end(store, one)
    assert (ended.done, ended.skipped, ended.count) == (2, 2, 4)
    sending = await store.delivery(claim.delivery_id)
    assert sending is not None
    assert sending.state is model.DeliveryState.SENDING


async def test_one_that_dies_again_is_not_told_again(store: base.Store) -> None:
    made = await dead(store, *several(3))
    advanced = await store.advance_redelivery(
        await running(store, rules.Selection()), turn(2), known=KNOWN, now=MADE_AT
    )
    assert advanced is not None
    await die_again(store)
    ended = await to_the_end(store, advanced.redelivery)
    assert (ended.done, ended.count) == (3, 3)
    assert [(await read(store, each)).state for each in made] == ["dead", "dead", "pending"]


@pytest.mark.parametrize("state", [model.DeliveryState.DELIVERED, model.DeliveryState.SUPERSEDED])
async def test_what_ended_well_can_be_told_again(store: SqlStore, state: model.DeliveryState) -> None:
    made = several(3)
    await store.add_deliveries(made)
    at = "delivered_at = 5" if state is model.DeliveryState.DELIVERED else "reason = 'newer_told'"
    statement = f"UPDATE deliveries SET state = '{state}', next_attempt_at = NULL, {at}"
    await store._database.transact(lambda transaction: transaction.fetch(statement, {}))
    ended = await to_the_end(store, await running(store, rules.Selection(state=state, type="task.s1")))
    assert ended.done == 1
    found = await read(store, made[1])
    assert (found.state, found.reason, found.delivered_at) == ("pending", None, None)
    assert (await read(store, made[0])).state is state


# -- destinations that take nothing ----------------------------------------------------------------

PAUSED = health.paused(model.Health(destination="renders"), now=NOW)


async def test_what_is_held_by_its_destination_stays_so_and_is_skipped(store: base.Store) -> None:
    made = several(3)
    await store.add_deliveries([*made, *several(1, "other", start=5)])
    await store.pause(PAUSED)
    await store.hold("other", model.HoldReason.PAUSED)  # left behind: its destination is not paused
    before = [await read(store, each) for each in made]
    ended = await to_the_end(store, await running(store, rules.Selection(state=model.DeliveryState.HELD)))
    assert (ended.done, ended.skipped) == (1, 3)
    assert [await read(store, each) for each in made] == before
    assert await store.due() == {"other": MADE_AT + 1.5}


@pytest.mark.parametrize("reason", ["paused", "disabled", "destination_missing"])
async def test_what_is_owed_to_one_that_takes_nothing_is_held(store: base.Store, reason: str) -> None:
    made = await dead(store, *several(3))
    if reason == "disabled":
        gone = model.Health(destination="renders", version=1, disabled_at=NOW, disabled_reason="gone")
        await store.pause(gone)
    elif reason == "paused":
        await store.pause(PAUSED)
    one = await running(store, rules.Selection())
    known = ("other",) if reason == "destination_missing" else KNOWN
    advanced = await store.advance_redelivery(one, turn(), known=known, now=MADE_AT)
    assert advanced is not None
    assert (advanced.moved, advanced.due, advanced.redelivery.done) == (3, {}, 3)
    for delivery in made:
        found = await read(store, delivery)
        assert (found.state, found.reason, found.next_attempt_at) == ("held", reason, None)
        assert (found.attempts_made, found.attempts_base) == (1, 1)


async def test_one_alone_is_held_too_where_its_destination_is_paused(store: base.Store) -> None:
    [made] = await dead(store, *several(1))
    await store.pause(PAUSED)
    for _ in range(2):
        again = await store.redeliver(made.id, now=MADE_AT)
        assert again is not None
        assert (again.state, again.reason, again.attempts_base) == ("held", "paused", 1)


# -- bounds ----------------------------------------------------------------------------------------


async def test_a_batch_looks_at_a_bounded_number(store: base.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeliveries, "CHUNK", 3)
    monkeypatch.setattr(redeliveries, "LOOK_MAX", 6)
    await dead(store, *several(20))
    one = await running(store, rules.Selection(type="task.s19"))
    batches = 0
    while not one.state.ended:
        advanced = await store.advance_redelivery(one, turn(), known=KNOWN, now=MADE_AT)
        assert advanced is not None
        one, batches = advanced.redelivery, batches + 1
        assert one.position is not None
        assert one.position == (NOW + min(6 * batches, 20) - 1, one.position[1])
    assert (batches, one.done, one.count) == (4, 1, 1)
