"""Conformance: filters narrow, pages are newest first and stand still while rows are added."""

from __future__ import annotations

import dataclasses

import pytest

from relay.domain import model
from relay.store import base
from tests.store import making


async def names(store: base.Store, where: base.TaskFilter, *, limit: int = 100) -> list[str]:
    return [view.task.task_id for view in (await store.tasks(where, before=None, limit=limit)).rows]


@pytest.fixture
async def filled(store: base.Store) -> base.Store:
    """t-0 (oldest) to t-9, the even ones of ``KEY``, the odd ones of ``OTHER_KEY``, t-4 and t-5 ended."""
    for number in range(10):
        key = making.KEY if number % 2 == 0 else making.OTHER_KEY
        write = making.new(
            f"t-{number}", register=making.registration(key), created_at=making.NOW + number // 2
        )
        await store.record([write])
        if number in (4, 5):
            told = [making.delivery(f"t-{number}", created_at=making.NOW + number)]
            await store.record([making.end(write.task, deliveries=told, events=[making.event("a")])])
    return store


async def test_filters_of_tasks(filled: base.Store) -> None:
    everything = await names(filled, base.TaskFilter())
    assert sorted(everything) == [f"t-{number}" for number in range(10)]
    assert {everything[0], everything[1]} == {"t-8", "t-9"}
    assert await names(filled, base.TaskFilter(key_id=making.KEY)) == ["t-8", "t-6", "t-4", "t-2", "t-0"]
    assert await names(filled, base.TaskFilter(key_id="key_stranger")) == []
    ended = base.TaskFilter(status=model.Status.SUCCEEDED)
    assert sorted(await names(filled, ended)) == ["t-4", "t-5"]
    assert await names(filled, dataclasses.replace(ended, key_id=making.OTHER_KEY)) == ["t-5"]
    assert len(await names(filled, base.TaskFilter(verdict=model.Verdict.RUNNING))) == 8
    assert await names(filled, base.TaskFilter(upstream="elsewhere")) == []
    assert await names(filled, base.TaskFilter(key_id=making.KEY, upstream="elsewhere")) == []


async def test_a_listed_task_has_all_its_registrations_and_events(filled: base.Store) -> None:
    views = (await filled.tasks(base.TaskFilter(status=model.Status.SUCCEEDED), before=None, limit=10)).rows
    for view in views:
        assert view.events_seen == 1
        task = dataclasses.replace(view.task, version=view.task.version + 1)
        for key in (making.KEY, making.OTHER_KEY, "key_third"):
            task = dataclasses.replace(task, version=task.version + 1)
            write = base.TaskWrite(
                task=task,
                expected_version=view.task.version if key == making.KEY else task.version - 1,
                register=making.registration(key),
                recorded_at=making.NOW,
            )
            assert (await filled.record([write]))[0] is not None
    views = (await filled.tasks(base.TaskFilter(key_id="key_third"), before=None, limit=1)).rows
    assert [len(view.registrations) for view in views] == [3]


@pytest.mark.parametrize("key_id", [None, making.KEY])
async def test_pages_of_tasks_stand_still_under_insertion(filled: base.Store, key_id: str | None) -> None:
    where = base.TaskFilter(key_id=key_id)
    expected = await names(filled, where)
    seen: list[str] = []
    before: base.Position | None = None
    while True:
        page = await filled.tasks(where, before=before, limit=2)
        seen += [view.task.task_id for view in page.rows]
        before = page.next
        if before is None:
            break
        await filled.record([making.new(f"new-{len(seen)}", created_at=making.NOW + 1000)])
    assert seen == expected


async def test_filters_of_deliveries(filled: base.Store) -> None:
    held = dataclasses.replace(making.delivery("t-6", "gone", created_at=making.NOW + 6), leased_until=None)
    notice = making.delivery(None, "oncall", created_at=making.NOW + 7)
    assert await filled.add_deliveries([held, notice]) == [True, True]
    assert await filled.add_deliveries([held]) == [False]
    await filled.hold_unconfigured(["renders", "oncall"], now=making.NOW)

    async def told(**changes: object) -> list[tuple[str | None, str]]:
        where = dataclasses.replace(base.DeliveryFilter(), **changes)  # type: ignore[arg-type]
        found = await filled.deliveries(where, before=None, limit=100)
        return [(delivery.task_id, delivery.destination) for delivery in found.rows]

    everything = [(None, "oncall"), ("t-6", "gone"), ("t-5", "renders"), ("t-4", "renders")]
    assert await told() == everything
    assert await told(state=model.DeliveryState.HELD) == [("t-6", "gone")]
    assert await told(state=model.DeliveryState.DELIVERED) == []
    assert await told(state=model.DeliveryState.PENDING, destination="renders") == everything[2:]
    assert await told(destination="oncall") == [(None, "oncall")]
    assert await told(key_id=making.KEY) == [("t-6", "gone"), ("t-4", "renders")]
    assert await told(key_id=making.KEY, state=model.DeliveryState.PENDING) == [("t-4", "renders")]
    assert await told(task=making.task("t-6").id) == [("t-6", "gone")]
    assert await told(task=making.task("t-6").id, key_id=making.OTHER_KEY) == []
    first = await filled.deliveries(base.DeliveryFilter(), before=None, limit=2)
    rest = await filled.deliveries(base.DeliveryFilter(), before=first.next, limit=2)
    assert rest.next is None
    assert [(each.task_id, each.destination) for each in first.rows + rest.rows] == everything


async def test_counts_of_what_is_open(filled: base.Store) -> None:
    notice = making.delivery(None, "oncall", leased_until=making.NOW + 60)
    await filled.add_deliveries([notice])
    assert await filled.count_deliveries() == {
        ("renders", model.DeliveryState.PENDING): 2,
        ("oncall", model.DeliveryState.SENDING): 1,
    }
    await filled.record_attempts([making.attempt(notice.id, 1, model.Outcome.DELIVERED)])
    assert await filled.count_deliveries() == {("renders", model.DeliveryState.PENDING): 2}
