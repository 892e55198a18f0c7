"""When a task is asked about, when it is given up, and how fast a credential may be used."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import model, schedule
from tests.domain import making

PACE = schedule.Pace(interval_min=2.0, interval_max=60.0, stall_timeout=7200.0)


def delay(age: float, *, failures: int = 0, rng: random.Random | None = None, **members: object) -> float:
    return schedule.poll_delay(
        making.task(**members),
        PACE,
        now=making.CREATED_AT + age,
        failures=failures,
        rng=rng or making.Lowest(),
    )


@pytest.mark.parametrize(
    ("age", "wait"), [(0.0, 2.0), (19.0, 2.0), (30.0, 3.0), (300.0, 30.0), (600.0, 60.0), (1e9, 60.0)]
)
def test_a_young_task_is_asked_often_and_an_old_one_slowly(age: float, wait: float) -> None:
    assert delay(age) == pytest.approx(wait)


def test_a_task_from_the_future_is_as_good_as_new() -> None:
    assert delay(-3600.0) == 2.0


def test_age_counts_from_the_submission_where_relay_knows_it() -> None:
    assert delay(300.0, submitted_at=making.CREATED_AT + 270.0) == pytest.approx(3.0)


@pytest.mark.parametrize(("failures", "wait"), [(0, 2.0), (1, 4.0), (2, 8.0), (5, 60.0), (10_000, 60.0)])
def test_failures_double_the_wait_up_to_the_longest(failures: int, wait: float) -> None:
    assert delay(0.0, failures=failures) == wait


@pytest.mark.parametrize("failures", [0, 1, 20])
def test_a_stalled_task_is_asked_slowly_however_young(failures: int) -> None:
    assert delay(1.0, failures=failures, verdict=model.Verdict.STALLED) == 60.0


@making.steady
@given(
    st.floats(-1e6, 1e9),
    st.integers(0, 100_000),
    st.sampled_from([model.Verdict.RUNNING, model.Verdict.STALLED]),
    st.randoms(use_true_random=False),
)
def test_a_poll_is_never_earlier_than_the_shortest_nor_much_later_than_the_longest_wait(
    age: float, failures: int, verdict: model.Verdict, rng: random.Random
) -> None:
    wait = delay(age, failures=failures, rng=rng, verdict=verdict)
    assert PACE.interval_min <= wait <= PACE.interval_max * (1 + schedule.JITTER)


@pytest.mark.parametrize(
    ("age", "members", "is_late"),
    [
        (7199.9, {}, False),
        (7200.0, {}, True),
        (1e9, {}, True),
        (7200.0, {"submitted_at": making.CREATED_AT + 1.0}, False),
        (7200.0, {"submitted_at": making.CREATED_AT - 1.0}, True),
        (1e9, {"verdict": model.Verdict.STALLED}, False),
        (1e9, {"verdict": model.Verdict.ENDED}, False),
        (1e9, {"verdict": model.Verdict.LOST}, False),
        (-1e9, {}, False),
    ],
)
def test_the_deadline_is_told_once(age: float, members: dict[str, object], is_late: bool) -> None:
    assert schedule.stalled(making.task(**members), PACE, now=making.CREATED_AT + age) is is_late


@pytest.mark.parametrize(
    ("at", "lost"),
    [
        ([0.0], False),
        ([0.0, 60.0], False),
        ([0.0, 20.0, 59.9], False),
        ([0.0, 20.0, 60.0], True),
        ([0.0, 1.0, 2.0, 3.0, 61.0], True),
        ([100.0, 101.0, 102.0], False),
        ([0.0, 1e6], False),
        ([-50.0, 0.0, 10.0], True),
    ],
)
def test_three_misses_a_minute_apart_give_a_task_up(at: list[float], lost: bool) -> None:
    misses = schedule.Misses()
    assert not misses.lost(1e9)
    for moment in at:
        misses = misses.another(moment)
    assert misses.lost(at[-1]) is lost
    assert misses.count == len(at)


# -- the budget of a credential -----------------------------------------------------------------------


def test_a_burst_is_there_at_once_and_then_the_rate_holds() -> None:
    budget = schedule.Budget(10.0, burst=3.0, now=0.0)
    assert [budget.take(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert budget.take(0.0) == pytest.approx(0.1)
    assert budget.take(0.05) == pytest.approx(0.05)
    assert budget.take(0.11) == 0.0


def test_asking_in_vain_costs_nothing() -> None:
    budget = schedule.Budget(1.0, burst=1.0, now=0.0)
    assert budget.take(0.0) == 0.0
    for _ in range(100):
        assert budget.take(0.5) == pytest.approx(0.5)
    assert budget.take(1.0) == 0.0


def test_a_long_rest_saves_up_no_more_than_the_burst() -> None:
    budget = schedule.Budget(10.0, burst=2.0, now=0.0)
    taken = [budget.take(1e9) for _ in range(3)]
    assert taken[:2] == [0.0, 0.0]
    assert taken[2] > 0


def test_what_had_to_be_asked_now_delays_what_comes_later() -> None:
    budget = schedule.Budget(2.0, burst=1.0, now=0.0)
    for _ in range(4):
        budget.spend()
    assert budget.take(0.0) == pytest.approx(2.0)
    assert budget.take(1.9) == pytest.approx(0.1)
    assert budget.take(2.0) == 0.0


def test_looking_at_the_bucket_takes_nothing() -> None:
    budget = schedule.Budget(2.0, burst=3.0, now=0.0)
    assert (int(budget.ready(0.0)), budget.wait(0.0)) == (3, 0.0)
    for _ in range(3):
        budget.spend()
    assert (int(budget.ready(0.0)), budget.wait(0.0)) == (0, pytest.approx(0.5))
    assert (int(budget.ready(1.0)), budget.wait(1.0)) == (2, 0.0)
    assert budget.take(1.0) == 0.0


def test_a_clock_that_steps_back_neither_freezes_nor_fills_the_bucket() -> None:
    budget = schedule.Budget(1.0, burst=1.0, now=1000.0)
    assert budget.take(1000.0) == 0.0
    assert budget.take(0.0) == pytest.approx(1.0)
    assert budget.take(0.5) == pytest.approx(0.5)
    assert budget.take(1.0) == 0.0


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 0.5), (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_a_bucket_that_would_never_give_a_token_cannot_be_made(rate: float, burst: float) -> None:
    with pytest.raises(AssertionError):
        schedule.Budget(rate, burst=burst, now=0.0)


@making.steady
@given(
    st.floats(0.01, 10_000.0),
    st.floats(1.0, 100.0),
    st.floats(0.0, 2e9),
    st.lists(st.one_of(st.none(), st.floats(0.0, 10.0)), max_size=60),
)
def test_no_more_is_given_than_burst_and_rate_allow_and_waiting_as_told_is_enough(
    rate: float, burst: float, start: float, pauses: list[float | None]
) -> None:
    """``None`` waits exactly as long as the bucket says."""
    budget = schedule.Budget(rate, burst=burst, now=start)
    now, taken = start, 0
    for pause in pauses:
        wait = budget.take(now)
        taken += wait == 0.0
        if pause is not None:
            now += pause
            continue
        tries = 0
        while wait:
            now, tries = now + wait, tries + 1
            assert tries < 5
            wait = budget.take(now)
            taken += wait == 0.0
    assert taken <= burst + rate * (now - start) + 1e-3
