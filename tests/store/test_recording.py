"""Conformance: one fact about a task is stored whole, once, by one winner."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.domain import errors, ids, model
from relay.store import base, opening
from tests.store import making


async def added(store: base.Store, name: str, **changes: object) -> model.Task:
    write = making.new(name, **changes)
    assert await store.record([write]) == [base.Recorded()]
    return write.task


async def test_a_task_comes_back_as_it_was_stored(store: base.Store) -> None:
    task = making.task(
        "video-1",
        request_id="req_1",
        model="veo3-fast",
        cost_estimate=Decimal("0.100"),
        cost_actual=Decimal("0.1234567890123456789"),
        output={"videos": [{"url": "https://cdn.example/ü.mp4", "seconds": 1.5}], "big": 2**80},
        error={"code": "x\x00y"},
        prompt='a cat 🐈 \\ "quoted"\n',
        cursor="opaque",
        submitted_at=making.NOW - 1.25,
        stalled_at=making.NOW,
        verdict=model.Verdict.STALLED,
    )
    registration = making.registration(
        making.KEY,
        "renders",
        "oncall",
        statuses=frozenset({model.Change.LOST, model.Change.FAILED}),
        metadata={"order": 7, "nested": [None, True, 1.5]},
    )
    write = base.TaskWrite(task=task, expected_version=None, register=registration, recorded_at=making.NOW)
    await store.record([write])
    reference = (making.UPSTREAM, "video-1")
    assert await store.watches([reference, (making.UPSTREAM, "other"), reference]) == [
        model.Watch(task=task, registrations=(registration,)),
        None,
        model.Watch(task=task, registrations=(registration,)),
    ]
    view = await store.task(*reference)
    assert view == base.TaskView(task=task, registrations=(registration,), events_seen=0)
    assert await store.task(making.UPSTREAM, "other") is None
    assert await store.watches([]) == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    output=json_values,
    metadata=st.none() | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values),
)
def test_any_json_round_trips(output: object, metadata: dict[str, object] | None, tmp_path: object) -> None:
    async def run() -> None:
        store = await opening.open_store(f"sqlite:///{tmp_path}/json.db", exclusive=False, migrate=True)
        try:
            known = (await store.watches([(making.UPSTREAM, "j")]))[0]
            task = making.task("j") if known is None else known.task
            write = base.TaskWrite(
                task=dataclasses.replace(task, version=task.version + 1, output=output),
                expected_version=None if known is None else task.version,
                register=making.registration(metadata=metadata),
                events=[making.event("e", data=output)],
                recorded_at=making.NOW,
            )
            assert await store.record([write]) == [base.Recorded()]
            view = await store.task(making.UPSTREAM, "j")
            assert view is not None
            assert repr(view.task.output) == repr(output)
            assert repr(view.registrations[0].metadata) == repr(metadata)
        finally:
            await store.aclose()

    asyncio.run(run())


async def test_of_two_writers_from_one_version_one_wins(store: base.Store) -> None:
    task = await added(store, "t")
    first = making.end(task, events=[making.event("a")], deliveries=[making.delivery("t")])
    late = base.TaskWrite(
        task=dataclasses.replace(task, version=1, prompt="late"),
        expected_version=0,
        events=[making.event("b")],
        register=making.registration(making.OTHER_KEY),
        deliveries=[making.delivery("t", "oncall")],
        recorded_at=making.NOW,
    )
    answers = [(await store.record([first]))[0], (await store.record([late]))[0]]
    assert answers == [base.Recorded(deliveries=frozenset({first.deliveries[0].id})), None]
    view = await store.task(making.UPSTREAM, "t")
    assert view is not None
    assert (view.task.status, view.task.prompt, view.events_seen) == (model.Status.SUCCEEDED, None, 1)
    assert [registration.key_id for registration in view.registrations] == [making.KEY]
    assert await store.delivery(late.deliveries[0].id) is None


async def test_writers_that_race_are_told_apart(store: base.Store) -> None:
    task = await added(store, "t")
    writes = [
        base.TaskWrite(
            task=dataclasses.replace(task, version=1, prompt=f"writer {number}"),
            expected_version=0,
            recorded_at=making.NOW,
        )
        for number in range(8)
    ]
    answers = await asyncio.gather(*(store.record([write]) for write in writes))
    winners = [number for number, answer in enumerate(answers) if answer[0] is not None]
    assert len(winners) == 1
    view = await store.task(making.UPSTREAM, "t")
    assert view is not None
    assert view.task.prompt == f"writer {winners[0]}"


async def test_two_new_tasks_of_one_name_are_one(store: base.Store) -> None:
    task = await added(store, "t")
    other = dataclasses.replace(making.new("t"), task=dataclasses.replace(task, id="tsk_other"))
    assert await store.record([other]) == [None]


async def test_of_several_writes_of_a_task_in_one_call_the_first_is_tried(store: base.Store) -> None:
    task = await added(store, "t")
    stale = dataclasses.replace(making.end(task), expected_version=7, task=making.ended(task, version=8))
    again = making.end(task)
    other = making.new("u")
    assert await store.record([stale, again, other]) == [None, None, base.Recorded()]
    assert await store.record([again, stale]) == [base.Recorded(), None]
    assert await store.record([]) == []


async def test_known_events_and_deliveries_are_not_added_again(store: base.Store) -> None:
    task = await added(store, "t")
    first = making.end(task, events=[making.event("a"), making.event("b")], deliveries=[making.delivery("t")])
    await store.record([first])
    again = dataclasses.replace(
        making.end(first.task, events=[making.event("b", type="changed"), making.event("c")]),
        deliveries=[making.delivery("t"), making.delivery("t", "oncall")],
    )
    recorded = (await store.record([again]))[0]
    assert recorded == base.Recorded(deliveries=frozenset({making.delivery("t", "oncall").id}))
    events = await store.events(task.id, after=0, limit=10)
    assert [(event.data, event.type) for event in events] == [
        ({"key": "a"}, "status"),
        ({"key": "b"}, "status"),
        ({"key": "c"}, "status"),
    ]


async def test_events_are_read_in_order_from_a_position(store: base.Store) -> None:
    tasks = [await added(store, name) for name in ("t", "u")]
    for task in tasks:
        keys = [making.event(key, timestamp=None) for key in ("z", "a", "m")]
        await store.record([making.end(task, events=keys)])
    for task in tasks:
        first = await store.events(task.id, after=0, limit=2)
        rest = await store.events(task.id, after=first[-1].seq, limit=2)
        assert [event.data for event in first + rest] == [{"key": "z"}, {"key": "a"}, {"key": "m"}]
        assert [event.id for event in first] == [ids.derive("evt", task.id, key) for key in ("z", "a")]
        assert first[0].timestamp is None
        assert first[0].recorded_at == making.NOW
        assert await store.events(task.id, after=rest[-1].seq, limit=2) == []


async def test_an_event_keeps_the_status_it_carried(store: base.Store) -> None:
    task = await added(store, "t")
    carried = making.event("a", snapshot=model.Snapshot(status=model.Status.PROCESSING))
    await store.record([making.end(task, events=[carried, making.event("b")])])
    events = await store.events(task.id, after=0, limit=10)
    assert [event.status for event in events] == [model.Status.PROCESSING, None]


async def test_a_registration_is_added_replaced_and_dropped(store: base.Store) -> None:
    task = await added(store, "t")

    async def write(**changes: object) -> None:
        nonlocal task
        changed = dataclasses.replace(task, version=task.version + 1)
        made = base.TaskWrite(task=changed, expected_version=task.version, recorded_at=making.NOW)
        assert (await store.record([dataclasses.replace(made, **changes)]))[0] is not None  # type: ignore[arg-type]
        task = changed

    async def names() -> list[tuple[str, tuple[str, ...]]]:
        view = await store.task(making.UPSTREAM, "t")
        assert view is not None
        return [(registration.key_id, registration.notify) for registration in view.registrations]

    await write(register=making.registration(making.OTHER_KEY, "oncall", created_at=making.NOW - 5))
    assert await names() == [(making.OTHER_KEY, ("oncall",)), (making.KEY, ("renders",))]
    await write(register=making.registration(making.KEY, "renders", "pipeline"))
    assert await names() == [(making.OTHER_KEY, ("oncall",)), (making.KEY, ("renders", "pipeline"))]
    await write(unregister=making.OTHER_KEY)
    assert await names() == [(making.KEY, ("renders", "pipeline"))]
    assert [watch.task.id for watch in await store.running(after=None, limit=10)] == [task.id]
    await write(unregister=making.KEY)
    assert await names() == []
    assert await store.running(after=None, limit=10) == []


BAD = {
    "a fact the schema forbids": lambda task: dataclasses.replace(task, verdict=model.Verdict.ENDED),
    "a lone surrogate": lambda task: dataclasses.replace(task, prompt="\ud800"),
    "a NUL": lambda task: dataclasses.replace(task, prompt="a\x00b"),
    "JSON that cannot be read again": lambda task: dataclasses.replace(task, output=nested(230)),
    "JSON that cannot be written": lambda task: dataclasses.replace(task, output={"x": object()}),
}


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("case", [pytest.param(make, id=name) for name, make in BAD.items()])
async def test_a_bad_write_fails_alone_and_whole(store: base.Store, case: object) -> None:
    good = [await added(store, f"good-{number}") for number in range(3)]
    bad = making.new("bad", register=making.registration())
    bad = dataclasses.replace(
        bad,
        task=case(bad.task),  # type: ignore[operator]
        events=[making.event("x")],
        deliveries=[making.delivery("bad")],
    )
    writes = [making.end(task, deliveries=[making.delivery(task.task_id)]) for task in good]
    answers = await store.record([writes[0], bad, writes[1], writes[2]])
    assert isinstance(answers[1], errors.StoreRejected)
    assert [type(answer) for answer in answers if answer is not answers[1]] == [base.Recorded] * 3
    assert await store.task(making.UPSTREAM, "bad") is None
    assert await store.delivery(bad.deliveries[0].id) is None
    for write in writes:
        assert (await store.delivery(write.deliveries[0].id)) is not None
    alone = await store.record([bad])
    assert isinstance(alone[0], errors.StoreRejected)


async def test_a_bad_delivery_undoes_its_own_fact(store: base.Store) -> None:
    task, other = await added(store, "t"), await added(store, "u")
    body = dataclasses.replace(making.delivery("t").notification, body=b"\xff")
    bad = making.end(task, deliveries=[dataclasses.replace(making.delivery("t"), notification=body)])
    answers = await store.record([bad, making.end(other, events=[making.event("a")])])
    assert isinstance(answers[0], errors.StoreRejected)
    assert answers[1] == base.Recorded()
    view = await store.task(making.UPSTREAM, "t")
    assert view is not None
    assert (view.task.version, view.events_seen) == (0, 0)


async def test_a_cancelled_writer_leaves_all_or_nothing(store: base.Store) -> None:
    for number in range(20):
        name = f"t-{number}"
        write = making.new(name)
        write = dataclasses.replace(write, events=[making.event("a")], deliveries=[making.delivery(name)])
        running = asyncio.ensure_future(store.record([write]))
        for _ in range(number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        # A transaction that was begun goes on without its caller; this one has its turn behind it.
        await store.record([making.new(f"behind-{number}")])
        view = await store.task(making.UPSTREAM, name)
        told = await store.delivery(write.deliveries[0].id)
        assert (view is None) == (told is None)
        assert view is None or view.events_seen == 1
    assert await store.record([making.new("after")]) == [base.Recorded()]


async def test_running_pages_by_id_over_watched_tasks_only(store: base.Store) -> None:
    running = [await added(store, f"t-{number}") for number in range(5)]
    over = await added(store, "over")
    await store.record([making.end(over)])
    nobody = base.TaskWrite(task=making.task("nobody"), expected_version=None, recorded_at=making.NOW)
    await store.record([nobody])
    expected = sorted(task.id for task in running)
    first = await store.running(after=None, limit=3)
    rest = await store.running(after=first[-1].task.id, limit=3)
    assert [watch.task.id for watch in first + rest] == expected
    assert await store.running(after=expected[-1], limit=3) == []


async def test_changes_and_outcomes_are_written_together_and_answered_each(store: base.Store) -> None:
    """One commit for what comes from different loops; who is refused takes nobody along."""
    task = making.task("told")
    owed = making.delivery("told", leased_until=making.NOW + 60)
    await store.record([dataclasses.replace(making.new("told"), deliveries=[owed])])
    outcome = making.attempt(owed.id, 1, model.Outcome.DELIVERED)
    lost = making.attempt("msg_none", 1, model.Outcome.DELIVERED)
    refused = dataclasses.replace(outcome, detail="zero \x00 inside")
    answers = await store.write(
        [refused, making.new("a"), outcome, making.end(task), making.new("a"), lost, outcome]
    )
    assert isinstance(answers[0], errors.StoreRejected)
    told = [base.Settled(number, model.DeliveryState.DELIVERED) for number in (1, 2)]
    assert answers[1:] == [base.Recorded(), told[0], base.Recorded(), None, None, told[1]]
    assert await store.write([]) == []
    found = await store.task(making.UPSTREAM, "told")
    assert found is not None
    assert found.task.verdict is model.Verdict.ENDED
    assert [attempt.number for attempt in await store.attempts(owed.id)] == [1, 2]
