"""Whatever an upstream says, in whatever order and however often: what must always hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from relay.domain import lifecycle, model
from tests.domain import making

Step = Callable[[model.Task, float], lifecycle.Fold]
FOREIGN = ("id", "upstream", "task_id", "created_at", "submitted_at", "prompt", "version", "cursor")


def look(page: model.Page) -> Step:
    return lambda task, now: lifecycle.fold(task, page, now=now)


def confirm(end: model.Status, authority: model.Snapshot, out_of_time: bool) -> Step:
    def step(task: model.Task, now: float) -> lifecycle.Fold:
        if task.verdict.final:
            return lifecycle.Fold(task=task)
        return lifecycle.settle(task, end, authority, now=now, out_of_time=out_of_time)

    return step


pages = st.one_of(
    st.lists(making.snapshots, max_size=6).map(lambda many: making.page(*many)),
    making.snapshots.map(making.endpoint),
    st.builds(
        lambda many, body, authoritative: model.Page(
            events=making.page(*many).events, snapshot=body, authoritative=authoritative
        ),
        st.lists(making.snapshots, max_size=4),
        making.snapshots,
        st.booleans(),
    ),
)
steps = st.lists(
    st.one_of(
        pages.map(look),
        st.builds(confirm, st.sampled_from(making.ENDS), making.snapshots, st.booleans()),
        st.just(lambda task, now: lifecycle.stall(task, now=now)),
        st.just(lambda task, now: lifecycle.lose(task, now=now)),
    ),
    max_size=12,
)


@making.steady
@given(steps)
def test_each_change_is_told_once_and_none_after_the_end(steps: Sequence[Step]) -> None:
    task = making.task()
    told: list[model.Change] = []
    for number, step in enumerate(steps):
        was_final = task.verdict.final
        fold = step(task, making.CREATED_AT + number)
        assert not (was_final and fold.changes)
        assert fold.unconfirmed is None or not fold.task.verdict.final
        told += fold.changes
        task = fold.task
        consistent(task)
    assert len(told) == len(set(told))
    ends = [change for change in told if change in making.END_CHANGES]
    assert len(ends) <= 1
    assert told[-1:] == ends or not ends
    assert bool(ends) == task.verdict.final
    if task.verdict is model.Verdict.ENDED:
        assert ends == [task.status.value]
    assert (model.Change.STALLED in told) == (task.stalled_at is not None)


def consistent(task: model.Task) -> None:
    """What the database checks too."""
    assert task.verdict.final == (task.finished_at is not None)
    assert task.status.terminal == (task.verdict is model.Verdict.ENDED)
    fresh = making.task()
    assert all(getattr(task, name) == getattr(fresh, name) for name in FOREIGN)


@making.steady
@given(pages, pages)
def test_seeing_the_same_again_changes_nothing(first: model.Page, second: model.Page) -> None:
    task = lifecycle.fold(making.task(), first, now=making.CREATED_AT).task
    once = lifecycle.fold(task, second, now=making.CREATED_AT)
    twice = lifecycle.fold(once.task, second, now=making.CREATED_AT + 9)
    assert twice.changes == ()
    assert twice.task == once.task


@making.steady
@given(
    st.sampled_from(making.ENDS),
    st.lists(st.sampled_from(["queued", "processing", "rendering", None]), max_size=6),
    st.randoms(use_true_random=False),
    st.integers(min_value=1, max_value=3),
)
def test_a_certain_end_is_found_in_any_order_duplication_and_chunking(
    end: model.Status, words: list[str | None], rng: object, copies: int
) -> None:
    observed = [making.snapshot(word) for word in words] + [making.whole(end.value)] * copies
    rng.shuffle(observed)  # type: ignore[attr-defined]
    task, told = making.task(), []
    while observed:
        size = rng.randint(1, len(observed))  # type: ignore[attr-defined]
        chunk, observed = observed[:size], observed[size:]
        fold = lifecycle.fold(task, making.page(*chunk), now=making.CREATED_AT)
        task, told = fold.task, [*told, *fold.changes]
    assert (task.status, task.verdict) == (end, model.Verdict.ENDED)
    assert told in ([end.value], ["processing", end.value])
    assert (task.output, task.cost_actual) == (making.OUTPUT, making.COST)


@making.steady
@given(st.lists(making.snapshots, max_size=6), st.sampled_from(making.ENDS))
def test_an_uncertain_end_is_never_told_by_events_alone(
    before: list[model.Snapshot], end: model.Status
) -> None:
    running = [one for one in before if one.status is None or not one.status.terminal]
    fold = lifecycle.fold(
        making.task(), making.page(*running, making.snapshot(end.value)), now=making.CREATED_AT
    )
    assert fold.unconfirmed is end
    assert not making.END_CHANGES & set(fold.changes)
    assert not fold.task.status.terminal


@making.steady
@given(pages, st.sampled_from(making.ENDS), making.snapshots)
def test_an_end_that_was_seen_is_told_at_the_latest_when_time_is_out(
    page: model.Page, end: model.Status, authority: model.Snapshot
) -> None:
    seen = lifecycle.fold(making.task(), page, now=making.CREATED_AT)
    if seen.task.verdict.final:
        return
    fold = lifecycle.settle(seen.task, end, authority, now=making.CREATED_AT, out_of_time=True)
    assert fold.unconfirmed is None
    assert [change in making.END_CHANGES for change in fold.changes] == [True]
    said = authority.status
    assert fold.task.status is (said if said is not None and said.terminal else end)


@making.steady
@given(pages)
def test_whoever_joins_later_is_owed_what_the_others_were_told_last(page: model.Page) -> None:
    fold = lifecycle.fold(making.task(), page, now=making.CREATED_AT)
    owed = lifecycle.changes_so_far(fold.task)
    assert owed == tuple(change for change in fold.changes if change in making.END_CHANGES)
