"""Lists of ten thousand rows: what each filter finds, in which pages, and by which index."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from relay.domain import model
from relay.store import base, opening
from relay.store.sql import SqlStore, database, walking
from tests.store import making

TASKS: Final = 10_000
MODELS: Final = ("veo3-fast", "veo3-quality", "kling-2", "wan-2_5")
RARE: Final = 997


class Watching:
    """A database that remembers what was read."""

    def __init__(self, target: database.Database) -> None:
        self._target = target
        self.read_so_far: list[tuple[str, dict[str, object]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def read(self, statement: str, parameters: database.Parameters) -> Sequence[database.Row]:
        self.read_so_far.append((statement, dict(parameters)))
        return await self._target.read(statement, parameters)


@dataclasses.dataclass
class Filled:
    store: SqlStore
    watching: Watching
    path: Path

    def plans(self) -> list[str]:
        """The steps of everything that was read since the last call."""
        statements, self.watching.read_so_far = self.watching.read_so_far, []
        with sqlite3.connect(self.path) as connection:
            steps = [
                row[3]
                for statement, parameters in statements
                for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
        connection.close()
        return steps


def a_task(number: int) -> list[base.TaskWrite]:
    """Mostly succeeded tasks of ``KEY``; every 997th is failed and of ``OTHER_KEY``."""
    rare = number % RARE == 0
    key = making.OTHER_KEY if rare else making.KEY
    metadata = {"order": number, "shop": "north" if rare else "south", "note": f"n°{number} \"'\\"}
    registration = making.registration(key, metadata=metadata)
    made = making.new(
        f"task_{number}",
        register=registration,
        created_at=making.NOW + number // 2,
        upstream="other" if rare else making.UPSTREAM,
        model=MODELS[number % len(MODELS)],
        request_id=f"req_{number}",
        prompt="A RED fox, 100%_sure" if rare else "a cat",
    )
    status = model.Status.FAILED if rare else model.Status.SUCCEEDED
    ended = making.ended(made.task, status=status)
    told = making.delivery(f"task_{number}", "rare" if rare else "renders", created_at=making.NOW + number)
    if number % 100 == 0:
        return [made]
    return [
        made,
        base.TaskWrite(
            task=ended,
            expected_version=made.task.version,
            events=[making.event("end")],
            deliveries=[told],
            recorded_at=making.NOW,
        ),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    path = tmp_path_factory.mktemp("plans") / "relay.db"
    store = await opening.open_store(f"sqlite:///{path}", exclusive=True, migrate=True)
    written = [a_task(number) for number in range(TASKS)]
    for start in range(0, TASKS, 1000):
        batch = written[start : start + 1000]
        await store.record([writes[0] for writes in batch])
        await store.record([writes[1] for writes in batch if len(writes) > 1])
    watching = Watching(store._database)
    yield Filled(SqlStore(watching), watching, path)
    await store.aclose()


def member(name: str, value: str) -> base.Member:
    return base.Member(name=name, value=value)


RARE_NUMBERS: Final = [number for number in range(TASKS - 1, -1, -1) if number % RARE == 0]

TASK_FILTERS: Final[dict[str, tuple[base.TaskFilter, int]]] = {
    "all": (base.TaskFilter(), TASKS),
    "key": (base.TaskFilter(key_id=making.OTHER_KEY), 11),
    "failed": (base.TaskFilter(status=model.Status.FAILED), 10),
    "succeeded": (base.TaskFilter(status=model.Status.SUCCEEDED), 9890),
    "running": (base.TaskFilter(verdict=model.Verdict.RUNNING), 100),
    "ended": (base.TaskFilter(verdict=model.Verdict.ENDED), 9900),
    "upstream": (base.TaskFilter(upstream="other"), 11),
    "model": (base.TaskFilter(model="kling-2"), 2500),
    "model prefix": (base.TaskFilter(model_prefix="veo3-"), 5000),
    "model prefix with a wildcard in it": (base.TaskFilter(model_prefix="wan-2_"), 2500),
    "nothing": (base.TaskFilter(model_prefix="veo_"), 0),
    "metadata text": (base.TaskFilter(metadata=(member("shop", "north"),)), 11),
    "metadata number": (base.TaskFilter(metadata=(member("order", "1994"),)), 1),
    "metadata of both": (base.TaskFilter(metadata=(member("order", "1994"), member("shop", "north"))), 1),
    "metadata of neither": (base.TaskFilter(metadata=(member("order", "1994"), member("shop", "south"))), 0),
    "metadata with odd text": (base.TaskFilter(metadata=(member("note", "n°7 \"'\\"),)), 1),
    "metadata that nobody has": (base.TaskFilter(metadata=(member("nobody", "1"),)), 0),
    "metadata of a key": (
        base.TaskFilter(key_id=making.KEY, metadata=(member("shop", "north"),)),
        0,
    ),
    "text in the prompt": (base.TaskFilter(text="red FOX"), 11),
    "text with wildcards": (base.TaskFilter(text="100%_s"), 11),
    "text with wildcards that match nothing": (base.TaskFilter(text="1_0%_s"), 0),
    "text in the id": (base.TaskFilter(text="task_9999"), 1),
    "text in the request id": (base.TaskFilter(text="req_123"), 11),
    "text of a key": (base.TaskFilter(key_id=making.OTHER_KEY, text="fox"), 11),
    "since": (base.TaskFilter(created_after=making.NOW + 4990), 20),
    "until": (base.TaskFilter(created_before=making.NOW + 10), 20),
    "between": (
        base.TaskFilter(created_after=making.NOW + 10, created_before=making.NOW + 20, model="kling-2"),
        5,
    ),
    "all at once": (
        base.TaskFilter(
            key_id=making.OTHER_KEY,
            status=model.Status.FAILED,
            verdict=model.Verdict.ENDED,
            upstream="other",
            model_prefix="veo3-",
            metadata=(member("shop", "north"),),
            text="fox",
            created_after=making.NOW + 1,
            created_before=making.NOW + 3988,  # not included: a fourth
        ),
        3,
    ),
}

DELIVERY_FILTERS: Final[dict[str, tuple[base.DeliveryFilter, int]]] = {
    "all": (base.DeliveryFilter(), 9900),
    "key": (base.DeliveryFilter(key_id=making.OTHER_KEY), 10),
    "pending": (base.DeliveryFilter(state=model.DeliveryState.PENDING), 9900),
    "dead": (base.DeliveryFilter(state=model.DeliveryState.DEAD), 0),
    "delivered": (base.DeliveryFilter(state=model.DeliveryState.DELIVERED), 0),
    "destination": (base.DeliveryFilter(destination="rare"), 10),
    "pending to": (base.DeliveryFilter(state=model.DeliveryState.PENDING, destination="rare"), 10),
    "task": (base.DeliveryFilter(task=making.task("task_7").id), 1),
    "type": (base.DeliveryFilter(type="task.failed"), 0),
    "reason": (base.DeliveryFilter(reason="http_status"), 0),
    "between": (base.DeliveryFilter(created_after=making.NOW + 1, created_before=making.NOW + 50), 49),
}


def assert_by_index(steps: Sequence[str]) -> None:
    """No table is read whole and nothing is sorted; the lists of JSON parameters are no tables."""
    assert steps
    for step in steps:
        assert "TEMP B-TREE" not in step, step
        assert not step.startswith("SCAN") or "VIRTUAL TABLE" in step, step
        assert not re.match(r"(MATERIALIZE|CO-ROUTINE)", step), step


@pytest.mark.parametrize("name", TASK_FILTERS)
@pytest.mark.asyncio(loop_scope="module")
async def test_tasks_are_found_in_order_and_by_an_index(filled: Filled, name: str) -> None:
    where, expected = TASK_FILTERS[name]
    seen: list[base.Position] = []
    before: base.Position | None = None
    filled.plans()
    for _ in range(100):
        page = await filled.store.tasks(where, before=before, limit=200)
        assert len(page.rows) <= 200
        seen += [(view.task.created_at, view.task.id) for view in page.rows]
        before = page.next
        if before is None:
            break
    assert before is None
    assert len(seen) == expected
    assert seen == sorted(set(seen), reverse=True)
    assert_by_index(filled.plans())


@pytest.mark.parametrize("name", DELIVERY_FILTERS)
@pytest.mark.asyncio(loop_scope="module")
async def test_deliveries_are_found_in_order_and_by_an_index(filled: Filled, name: str) -> None:
    where, expected = DELIVERY_FILTERS[name]
    seen: list[base.Position] = []
    before: base.Position | None = None
    filled.plans()
    for _ in range(100):
        page = await filled.store.deliveries(where, before=before, limit=200)
        seen += [(each.created_at, each.id) for each in page.rows]
        before = page.next
        if before is None:
            break
    assert before is None
    assert len(seen) == expected
    assert seen == sorted(set(seen), reverse=True)
    assert_by_index(filled.plans())


@pytest.mark.asyncio(loop_scope="module")
async def test_one_page_looks_at_a_bounded_number_of_rows(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "WALK_MAX", 1000)
    where = base.TaskFilter(text="red fox")
    filled.plans()
    page = await filled.store.tasks(where, before=None, limit=50)
    looked_at = [
        len(json.loads(str(parameters["rows"])))
        for statement, parameters in filled.watching.read_so_far
        if "LIKE" in statement
    ]
    assert sum(looked_at) == 1000
    assert [view.task.task_id for view in page.rows] == [
        f"task_{number}" for number in RARE_NUMBERS if number >= TASKS - 1000
    ]
    assert page.next is not None  # short, and there is more
    found = list(page.rows)
    while page.next is not None:
        page = await filled.store.tasks(where, before=page.next, limit=50)
        found += page.rows
    assert [view.task.task_id for view in found] == [f"task_{number}" for number in RARE_NUMBERS]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_filtered_page_that_is_the_last_says_so(filled: Filled) -> None:
    page = await filled.store.tasks(base.TaskFilter(upstream="other"), before=None, limit=11)
    assert (len(page.rows), page.next) == (11, None)
    page = await filled.store.tasks(base.TaskFilter(text="red fox"), before=None, limit=4)
    assert len(page.rows) == 4
    assert page.next == (page.rows[-1].task.created_at, page.rows[-1].task.id)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_streams_read_is_read_by_an_index(filled: Filled) -> None:
    filled.plans()
    last = await filled.store.last_event()
    assert last == 9900
    task = making.task("task_7")
    for key_id in (None, making.KEY):
        changes = await filled.store.changes(after=last - 5, upto=last, limit=10, key_id=key_id)
        assert [change.event.seq for change in changes] == list(range(last - 4, last + 1))
        [change] = await filled.store.changes(after=0, upto=last, limit=10, key_id=key_id, task=task.id)
        assert (change.task_id, change.upstream) == ("task_7", making.UPSTREAM)
    assert await filled.store.watchers([task.id, "tsk_none"]) == {task.id: frozenset({making.KEY})}
    assert_by_index(filled.plans())
