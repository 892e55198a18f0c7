"""Conformance: purging never takes what is owed, a backup restores, and closing is final."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from relay.domain import errors, model
from relay.store import base, opening
from tests.store import making

NOW = making.NOW
OLD = NOW - 1000.0
RETENTION = base.Retention(
    tasks_before=NOW - 500, events_before=NOW - 500, attempts_before=NOW - 500, submissions_before=NOW - 500
)
NEVER = base.Retention(tasks_before=0.0, events_before=0.0, attempts_before=0.0, submissions_before=0.0)


async def ended(
    store: base.Store, name: str, *, at: float, deliveries: tuple[model.NewDelivery, ...] = ()
) -> model.Task:
    write = making.new(name, created_at=at)
    await store.record([write])
    over = making.end(write.task, at=at, deliveries=deliveries, events=[making.event("a")])
    assert (await store.record([over]))[0] is not None
    return over.task


async def purge(store: base.Store, retention: base.Retention = RETENTION) -> int:
    total = 0
    while gone := await store.purge(retention, limit=2):
        total += gone
    return total


async def test_what_ended_long_ago_and_owes_nothing_goes(store: base.Store) -> None:
    told = making.delivery("old", created_at=OLD, leased_until=NOW)
    await ended(store, "old", at=OLD, deliveries=(told,))
    await store.record_attempts([making.attempt(told.id, 1, model.Outcome.DELIVERED)])
    recent = await ended(store, "recent", at=NOW)
    assert await purge(store, NEVER) == 0
    assert await purge(store) > 0
    assert await store.task(making.UPSTREAM, "old") is None
    assert await store.delivery(told.id) is None
    assert await store.attempts(told.id) == []
    view = await store.task(making.UPSTREAM, "recent")
    assert view is not None
    assert (view.task, view.events_seen, len(view.registrations)) == (recent, 1, 1)
    assert await purge(store) == 0
    assert await store.add_deliveries([making.delivery(None)]) == [True]


@pytest.mark.parametrize("state", ["pending", "sending", "held"])
async def test_a_task_that_owes_stays(store: base.Store, state: str) -> None:
    owed = making.delivery("t", created_at=OLD, leased_until=NOW if state == "sending" else None)
    notice = dataclasses.replace(owed, id="msg_notice", task=None)
    await ended(store, "t", at=OLD, deliveries=(owed,))
    await store.add_deliveries([notice])
    if state == "held":
        await store.hold_unconfigured([], now=OLD)
    await store.purge(RETENTION, limit=100)
    assert await store.task(making.UPSTREAM, "t") is not None
    for kept in (owed, notice):
        found = await store.delivery(kept.id)
        assert found is not None
        assert found.state == state
    await store.hold_unconfigured(["renders"], now=OLD)
    await store.void_leases(now=OLD)
    claims = await store.claim(
        [base.ClaimRequest(destination="renders", limit=9)], now=NOW, leased_until=NOW + 1
    )
    assert [claim.body for claim in claims] == [owed.notification.body] * 2


async def test_a_running_task_goes_only_when_nobody_is_registered(store: base.Store) -> None:
    await store.record([making.new("watched", created_at=OLD)])
    left = making.task("left", created_at=OLD)
    await store.record([base.TaskWrite(task=left, expected_version=None, recorded_at=OLD)])
    assert await purge(store) == 1
    assert await store.task(making.UPSTREAM, "watched") is not None
    assert await store.task(making.UPSTREAM, "left") is None


async def test_dead_tasks_and_old_notices_go(store: base.Store) -> None:
    dead = making.delivery("t", created_at=OLD, leased_until=NOW)
    await ended(store, "t", at=OLD, deliveries=(dead,))
    notices = [
        dataclasses.replace(making.delivery(None, name, created_at=OLD), leased_until=NOW)
        for name in ("a", "b", "c")
    ]
    await store.add_deliveries(notices)
    await store.record_attempts(
        [
            making.attempt(dead.id, 1, model.Outcome.DEAD),
            making.attempt(notices[0].id, 1, model.Outcome.DELIVERED),
            making.attempt(notices[1].id, 1, model.Outcome.DEAD),
        ]
    )
    await purge(store)
    left = (await store.deliveries(base.DeliveryFilter(), before=None, limit=10)).rows
    assert [delivery.id for delivery in left] == [notices[2].id]


async def test_events_and_attempts_go_before_their_task(store: base.Store) -> None:
    write = making.new("t")
    await store.record([write])
    old = making.end(write.task, events=[making.event(str(number)) for number in range(5)], at=OLD)
    await store.record([dataclasses.replace(old, task=dataclasses.replace(old.task, finished_at=NOW))])
    delivery = making.delivery(None, leased_until=NOW)
    await store.add_deliveries([delivery])
    first = making.attempt(delivery.id, 1, model.Outcome.RETRY, started_at=OLD, next_attempt_at=NOW)
    await store.record_attempts([first])
    assert await store.purge(RETENTION, limit=2) == 3
    assert await purge(store) == 3
    assert await store.attempts(delivery.id) == []
    (claim,) = await store.claim(
        [base.ClaimRequest(destination="renders", limit=1)], now=NOW, leased_until=NOW + 1
    )
    assert await store.record_attempts(
        [making.attempt(delivery.id, claim.fence, model.Outcome.DELIVERED)]
    ) == [2]
    again = dataclasses.replace(old.task, version=old.task.version + 1)
    await store.record([dataclasses.replace(making.end(old.task, events=[making.event("new")]), task=again)])
    assert [event.seq for event in await store.events(write.task.id, after=0, limit=9)] == [6]


async def test_old_submissions_go_but_not_pending_ones(store: base.Store) -> None:
    made = [dataclasses.replace(making.submission(name), created_at=OLD) for name in ("a", "b", "c")]
    for submission in made:
        await store.open_submission(submission)
    await store.leave_unresolved(["sub_a"])
    await store.reject_submission("sub_b", now=OLD)
    assert await purge(store) == 2
    assert [found.id for found in await store.open_submissions()] == ["sub_c"]


async def test_check_reads_and_writes(store: base.Store) -> None:
    await store.check()
    await store.aclose()
    await store.aclose()
    with pytest.raises(errors.StoreUnavailable):
        await store.check()
    with pytest.raises(errors.StoreUnavailable):
        await store.keys()


async def test_a_backup_of_a_running_store_restores(store: base.Store, tmp_path: Path) -> None:
    told = making.delivery("t")
    task = await ended(store, "t", at=NOW, deliveries=(told,))
    copy = tmp_path / "copy.db"
    await store.backup(str(copy))
    await store.record([making.new("after")])
    with pytest.raises(errors.StoreUnavailable, match="exists already"):
        await store.backup(str(copy))
    restored = await opening.open_store(f"sqlite:///{copy}", exclusive=True, migrate=True)
    try:
        assert restored.applied == ()
        view = await restored.task(making.UPSTREAM, "t")
        assert view is not None
        assert view.task == task
        assert await restored.task(making.UPSTREAM, "after") is None
        assert set(await restored.due()) == {"renders"}
    finally:
        await restored.aclose()
