"""Who is told: registrations first, then routes, then the destinations' own filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import model, routing
from tests.domain import making

Change = model.Change
VEO = making.task(model="veo3-1-fast")


def destination(name: str, *statuses: Change, **members: object) -> model.Destination:
    return model.Destination(
        name=name,
        format=model.Format.CHAT,
        statuses=frozenset(statuses) or None,
        **members,  # type: ignore[arg-type]
    )


def registration(*notify: str, key: str = "key_a", at: float = 0.0, **members: object) -> model.Registration:
    return model.Registration(key_id=key, notify=notify, created_at=at, **members)  # type: ignore[arg-type]


def table(*routes: model.Route, destinations: Iterable[model.Destination] = ()) -> routing.Table:
    known = {name: destination(name) for name in ("renders", "oncall", "pipeline")}
    known |= {one.name: one for one in destinations}
    return routing.Table(destinations=known, routes=routes)


def told(
    change: Change,
    registrations: Iterable[model.Registration],
    where: routing.Table,
    task: model.Task = VEO,
) -> list[str]:
    return [one.destination for one in routing.owed(task, [change], list(registrations), where)]


def test_only_an_end_supersedes_and_only_where_something_may_be_owed_before_it() -> None:
    ended = making.task(status=model.Status.SUCCEEDED, verdict=model.Verdict.ENDED, finished_at=5.0)
    stalled = dataclasses.replace(ended, stalled_at=3.0)
    plain, eager = registration("renders"), registration("renders", statuses=frozenset({Change.QUEUED}))
    assert not routing.supersedes(ended, [plain], table())
    assert routing.supersedes(stalled, [plain], table())
    assert routing.supersedes(ended, [plain, eager], table())
    assert routing.supersedes(ended, [], table(destinations=[destination("curious", Change.PROCESSING)]))
    assert routing.supersedes(ended, [], table(model.Route(notify=("renders",), status=("*",))))
    assert not routing.supersedes(ended, [], table(model.Route(notify=("renders",), status=("fail*",))))
    assert not routing.supersedes(VEO, [eager], table())


@pytest.mark.parametrize(
    ("change", "heard"),
    [
        (Change.QUEUED, False),
        (Change.PROCESSING, False),
        (Change.SUCCEEDED, True),
        (Change.FAILED, True),
        (Change.CANCELLED, True),
        (Change.STALLED, True),
        (Change.LOST, True),
    ],
)
def test_without_a_word_about_statuses_ends_and_stalls_are_heard(change: Change, heard: bool) -> None:
    assert told(change, [registration("renders")], table()) == (["renders"] if heard else [])


def test_a_destination_s_own_statuses_replace_the_default() -> None:
    where = table(destinations=[destination("renders", Change.PROCESSING, Change.FAILED)])
    assert told(Change.PROCESSING, [registration("renders")], where) == ["renders"]
    assert told(Change.SUCCEEDED, [registration("renders")], where) == []


def test_a_registration_s_statuses_override_those_of_its_destinations() -> None:
    where = table(destinations=[destination("renders", Change.FAILED)])
    wants = registration("renders", "oncall", statuses=frozenset({Change.QUEUED}))
    assert told(Change.QUEUED, [wants], where) == ["renders", "oncall"]
    assert told(Change.FAILED, [wants], where) == []


def test_a_registration_that_wants_no_status_is_told_nothing() -> None:
    wants = registration("renders", statuses=frozenset())
    assert all(told(change, [wants], table()) == [] for change in Change)


def test_naming_a_destination_shuts_out_the_routes() -> None:
    where = table(model.Route(notify=("oncall",)))
    assert told(Change.SUCCEEDED, [registration("renders")], where) == ["renders"]
    assert told(Change.SUCCEEDED, [registration()], where) == ["oncall"]
    both = [registration("renders"), registration(key="key_b", at=1.0)]
    assert told(Change.SUCCEEDED, both, where) == ["renders", "oncall"]


def test_nobody_registered_means_nobody_told() -> None:
    assert told(Change.SUCCEEDED, [], table(model.Route(notify=("oncall",)))) == []


def test_a_task_without_destination_or_route_is_told_to_nobody() -> None:
    assert told(Change.SUCCEEDED, [registration()], table()) == []


def test_the_first_route_that_matches_wins_even_if_nobody_there_listens() -> None:
    where = table(
        model.Route(notify=("oncall",), status=("failed",)),
        model.Route(notify=("renders",), model="veo3-*"),
        model.Route(notify=("pipeline",)),
        destinations=[destination("renders", Change.PROCESSING)],
    )
    assert told(Change.FAILED, [registration()], where) == ["oncall"]
    assert told(Change.PROCESSING, [registration()], where) == ["renders"]
    assert told(Change.SUCCEEDED, [registration()], where) == []
    assert told(Change.SUCCEEDED, [registration()], where, making.task(model="kling-v3")) == ["pipeline"]


def test_a_route_that_names_statuses_overrides_its_destinations() -> None:
    where = table(
        model.Route(notify=("renders",), status=("queued", "proc*")),
        destinations=[destination("renders", Change.FAILED)],
    )
    assert told(Change.QUEUED, [registration()], where) == ["renders"]
    assert told(Change.PROCESSING, [registration()], where) == ["renders"]


def test_a_registration_s_statuses_hold_for_its_routes_too() -> None:
    where = table(model.Route(notify=("renders",)))
    wants = registration(statuses=frozenset({Change.PROCESSING}))
    assert told(Change.PROCESSING, [wants], where) == ["renders"]
    assert told(Change.SUCCEEDED, [wants], where) == []


@pytest.mark.parametrize(
    ("glob", "slug", "matches"),
    [
        (None, None, True),
        (None, "veo3-1", True),
        ("*", None, True),
        ("*", "veo3-1", True),
        ("veo3-*", "veo3-1-fast", True),
        ("veo3-*", "VEO3-1-fast", False),
        ("veo3-*", "a-veo3-1", False),
        ("veo3", "veo3-1", False),
        ("veo3-?", "veo3-1", True),
        ("veo3-?", "veo3-1-fast", False),
        ("veo[34]-1", "veo3-1", True),
        ("veo3-*", None, False),
        ("veo3.1", "veo3-1", False),
    ],
)
def test_model_globs_match_the_whole_slug(glob: str | None, slug: str | None, matches: bool) -> None:
    route = model.Route(notify=("renders",), model=glob)
    assert routing.matches(route, making.task(model=slug), Change.FAILED) is matches


@pytest.mark.parametrize(
    ("globs", "heard"),
    [
        (("failed",), {"failed"}),
        (("*ed",), {"queued", "succeeded", "failed", "cancelled", "stalled"}),
        (("failed", "lost"), {"failed", "lost"}),
        (("*",), {change.value for change in Change}),
        (("FAILED",), set()),
        ((), set()),
    ],
)
def test_status_globs(globs: tuple[str, ...], heard: set[str]) -> None:
    route = model.Route(notify=("renders",), status=globs)
    assert {change.value for change in Change if routing.matches(route, VEO, change)} == heard


def test_status_and_model_must_both_match() -> None:
    route = model.Route(notify=("renders",), status=("failed",), model="veo3-*")
    assert routing.matches(route, VEO, Change.FAILED)
    assert not routing.matches(route, VEO, Change.SUCCEEDED)
    assert not routing.matches(route, making.task(model="kling-v3"), Change.FAILED)


def test_a_destination_is_told_once_with_the_metadata_that_named_it_first() -> None:
    old = registration("renders", "oncall", key="key_z", at=1.0, metadata={"order": 1})
    new = registration("pipeline", "renders", "renders", key="key_a", at=2.0, metadata={"order": 2})
    owed = routing.owed(VEO, [Change.FAILED], [new, old], table())
    assert [(one.destination, one.metadata) for one in owed] == [
        ("renders", {"order": 1}),
        ("oncall", {"order": 1}),
        ("pipeline", {"order": 2}),
    ]


def test_the_metadata_is_of_the_oldest_that_wants_this_change() -> None:
    quiet = registration("renders", at=1.0, statuses=frozenset({Change.LOST}), metadata={"order": 1})
    loud = registration("renders", key="key_b", at=2.0, metadata={"order": 2})
    [one] = routing.owed(VEO, [Change.FAILED], [quiet, loud], table())
    assert one.metadata == {"order": 2}


def test_equal_ages_are_ordered_by_key_so_that_a_second_try_says_the_same() -> None:
    first = registration("renders", key="key_a", metadata={"order": 1})
    second = registration("renders", key="key_b", metadata={"order": 2})
    for order in ([first, second], [second, first]):
        [one] = routing.owed(VEO, [Change.FAILED], order, table())
        assert one.metadata == {"order": 1}


@pytest.mark.parametrize(("change", "owed"), [(Change.SUCCEEDED, ["gone"]), (Change.QUEUED, [])])
def test_a_destination_that_is_not_configured_any_more_is_still_owed(change: Change, owed: list[str]) -> None:
    assert told(change, [registration("gone")], table()) == owed
    assert told(change, [registration()], table(model.Route(notify=("gone",)))) == owed


def test_changes_of_one_look_are_owed_in_their_order() -> None:
    wants = registration("renders", statuses=frozenset(Change))
    owed = routing.owed(VEO, [Change.PROCESSING, Change.SUCCEEDED], [wants], table())
    assert [one.change.value for one in owed] == ["processing", "succeeded"]


names = st.sampled_from(["renders", "oncall", "pipeline", "gone"])
statuses = st.one_of(st.none(), st.frozensets(st.sampled_from(list(Change))))
registrations = st.lists(
    st.builds(
        model.Registration,
        key_id=st.sampled_from(["key_a", "key_b", "key_c"]),
        notify=st.lists(names, max_size=4).map(tuple),
        statuses=statuses,
        metadata=st.sampled_from([None, {"n": 1}, {"n": 2}]),
        created_at=st.sampled_from([1.0, 2.0]),
    ),
    max_size=3,
    unique_by=lambda one: one.key_id,
)
routes = st.lists(
    st.builds(
        model.Route,
        notify=st.lists(names, min_size=1, max_size=2).map(tuple),
        status=st.sampled_from([None, ("failed",), ("*",)]),
        model=st.sampled_from([None, "veo*", "kling*"]),
    ),
    max_size=3,
)


@making.steady
@given(registrations, routes, st.lists(st.sampled_from(list(Change)), max_size=5), st.randoms())
def test_one_delivery_per_destination_and_change_whatever_the_order_of_registrations(
    several: list[model.Registration], some: list[model.Route], changes: list[Change], rng: object
) -> None:
    where = table(*some)
    owed = routing.owed(VEO, changes, several, where)
    pairs = [(one.destination, one.change) for one in owed]
    assert len(pairs) == len(set(pairs))
    named = {name for one in several for name in one.notify} | {name for one in some for name in one.notify}
    assert {one.destination for one in owed} <= named
    assert {one.change for one in owed} <= set(changes)
    rng.shuffle(several)  # type: ignore[attr-defined]
    assert routing.owed(VEO, changes, several, where) == owed
