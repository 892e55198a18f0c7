"""When a failed send is tried again, and when it is given up."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import backoff, errors, model
from tests.domain import making

NOW = making.CREATED_AT
SHORT = (0.0, 5.0, 300.0)


def decide(
    failure: errors.SendError | None = None,
    *,
    schedule: tuple[float, ...] = SHORT,
    limit_unknowns: bool = False,
    rng: random.Random | None = None,
    retry_after_max: float = backoff.RETRY_AFTER_MAX,
    **counts: int,
) -> backoff.Verdict:
    return backoff.after_failure(
        failure or making.failure(),
        making.claim(**counts),
        schedule=schedule,
        limit_unknowns=limit_unknowns,
        now=NOW,
        rng=rng or making.Lowest(),
        retry_after_max=retry_after_max,
    )


def test_the_default_schedule_is_that_of_standard_webhooks() -> None:
    assert len(backoff.SCHEDULE) == 10
    assert backoff.SCHEDULE[0] == 0.0
    assert sum(backoff.SCHEDULE) == 75 * 3600 + 35 * 60 + 5
    assert list(backoff.SCHEDULE) == sorted(backoff.SCHEDULE)


def test_each_attempt_waits_for_its_own_delay_and_the_last_is_final() -> None:
    waits = []
    for made in range(len(SHORT)):
        verdict = decide(attempts_made=made)
        if verdict.next_attempt_at is None:
            break
        waits.append(verdict.next_attempt_at - NOW)
    assert waits == [5.0, 300.0]
    assert (made, verdict.state, verdict.reason) == (2, model.DeliveryState.DEAD, "server_error")
    assert verdict.outcome is model.Outcome.RETRY


@pytest.mark.parametrize("base", [0, 3, 10])
def test_a_redelivery_has_the_whole_schedule_again(base: int) -> None:
    first = decide(attempts_made=base, attempts_base=base)
    assert first == decide()
    assert decide(attempts_made=base + 1, attempts_base=base).state is model.DeliveryState.PENDING
    assert decide(attempts_made=base + 2, attempts_base=base).state is model.DeliveryState.DEAD


@pytest.mark.parametrize("schedule", [(), (0.0,)])
def test_a_schedule_of_one_attempt_has_no_second(schedule: tuple[float, ...]) -> None:
    assert decide(schedule=schedule).state is model.DeliveryState.DEAD


def test_a_schedule_that_was_shortened_meanwhile_ends_the_delivery() -> None:
    assert decide(attempts_made=7).state is model.DeliveryState.DEAD


def test_a_permanent_failure_is_dead_whatever_is_left() -> None:
    verdict = decide(making.failure(errors.Decision.DEAD, retry_after=30.0))
    assert verdict == backoff.Verdict(
        state=model.DeliveryState.DEAD, outcome=model.Outcome.DEAD, reason="server_error"
    )


@pytest.mark.parametrize("made", [0, 2, 7])
def test_a_destination_that_is_gone_is_disabled_and_the_delivery_held_whatever_is_left(made: int) -> None:
    failure = making.failure(errors.Decision.DISABLE, retry_after=30.0)
    assert decide(failure, attempts_made=made) == backoff.Verdict(
        state=model.DeliveryState.HELD, outcome=model.Outcome.DISABLE, reason="server_error", disable=True
    )


@pytest.mark.parametrize("decision", list(errors.Decision))
def test_nothing_else_disables(decision: errors.Decision) -> None:
    assert decide(making.failure(decision)).disable is (decision is errors.Decision.DISABLE)


def test_what_we_did_ourselves_is_not_charged() -> None:
    assert making.failure().charged
    assert not errors.AddressRefused("no", rule="loopback").charged


@pytest.mark.parametrize(
    ("unknowns", "limited", "state", "reason"),
    [
        (0, True, "pending", "server_error"),
        (1, True, "pending", "server_error"),
        (2, True, "dead", "unknown"),
        (2, False, "pending", "server_error"),
        (7, False, "pending", "server_error"),
    ],
)
def test_an_unknown_outcome_is_repeated_twice_for_chat_and_as_scheduled_for_webhooks(
    unknowns: int, limited: bool, state: str, reason: str
) -> None:
    verdict = decide(
        making.failure(errors.Decision.UNKNOWN),
        schedule=backoff.SCHEDULE,
        limit_unknowns=limited,
        attempts_made=unknowns,
        unknowns_made=unknowns,
    )
    assert (verdict.state, verdict.reason, verdict.outcome) == (state, reason, "unknown")


def test_known_failures_are_not_counted_as_unknown_ones() -> None:
    verdict = decide(schedule=backoff.SCHEDULE, limit_unknowns=True, attempts_made=5, unknowns_made=2)
    assert verdict.state is model.DeliveryState.PENDING


def test_unknown_outcomes_end_with_the_schedule_too() -> None:
    verdict = decide(making.failure(errors.Decision.UNKNOWN), limit_unknowns=True, attempts_made=2)
    assert verdict.state is model.DeliveryState.DEAD


@pytest.mark.parametrize(
    ("scheduled", "asked", "wait"),
    [
        (5.0, None, 5.0),
        (5.0, 1.0, 5.0),
        (5.0, 30.0, 30.0),
        (300.0, 30.0, 300.0),
        (5.0, 3600.0, 3600.0),
        (5.0, 86_400.0, 3600.0),
        (5.0, math.inf, 3600.0),
        (86_400.0, math.inf, 86_400.0),
        (5.0, 0.0, 5.0),
        (5.0, -0.0, 5.0),
        (5.0, -1e308, 5.0),
        (5.0, -math.inf, 5.0),
        (5.0, math.nan, 5.0),
        (0.0, math.nan, 0.0),
    ],
)
def test_a_peer_s_wish_is_a_floor_up_to_an_hour(scheduled: float, asked: float | None, wait: float) -> None:
    assert backoff.delay(scheduled, asked, rng=making.Lowest()) == wait
    assert backoff.delay(scheduled, asked, rng=making.Highest()) == pytest.approx(wait * 1.1)


@pytest.mark.parametrize(
    ("asked", "most", "wait"),
    [(50.0, 60.0, 50.0), (7200.0, 60.0, 60.0), (7200.0, 86_400.0, 7200.0), (math.inf, 60.0, 60.0)],
)
def test_how_much_a_peer_may_ask_for_is_a_setting(asked: float, most: float, wait: float) -> None:
    verdict = decide(making.failure(retry_after=asked), retry_after_max=most)
    assert verdict.next_attempt_at == NOW + wait


def test_the_peer_s_wish_reaches_the_next_attempt() -> None:
    verdict = decide(making.failure(retry_after=120.0))
    assert verdict.next_attempt_at == NOW + 120.0


@making.steady
@given(
    st.one_of(st.none(), st.floats()),
    st.lists(st.floats(0.0, 7 * 86_400.0), min_size=1, max_size=50),
    st.integers(0, 60),
    st.integers(0, 1000),
    st.integers(0, 60),
    st.sampled_from(errors.Decision),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_delivery_is_either_dead_or_due_at_a_sane_time_never_early(
    asked: float | None,
    schedule: list[float],
    used: int,
    base: int,
    unknowns: int,
    decision: errors.Decision,
    limited: bool,
    rng: random.Random,
) -> None:
    verdict = decide(
        making.failure(decision, retry_after=asked),
        schedule=tuple(schedule),
        limit_unknowns=limited,
        rng=rng,
        attempts_made=base + used,
        attempts_base=base,
        unknowns_made=unknowns,
    )
    assert (verdict.next_attempt_at is not None) == (verdict.state is model.DeliveryState.PENDING)
    if verdict.next_attempt_at is not None:
        assert used + 1 < len(schedule)
        wait = verdict.next_attempt_at - NOW
        longest = max(schedule[used + 1], backoff.RETRY_AFTER_MAX)
        assert schedule[used + 1] - 1e-6 <= wait <= longest * 1.1 + 1e-6
    elif decision is errors.Decision.RETRY:
        assert used + 1 >= len(schedule)


@pytest.mark.parametrize(
    ("status_code", "asked", "seconds"),
    [
        (429, 30.0, 30.0),
        (503, 30.0, 30.0),
        (429, 7200.0, 3600.0),
        (429, None, backoff.REST),
        (502, None, backoff.REST),
        (504, 0.0, backoff.REST),
        (503, None, 0.0),
        (500, 30.0, 0.0),
        (None, None, 0.0),
    ],
)
def test_a_busy_destination_is_left_alone_for_as_long_as_it_asks(
    status_code: int | None, asked: float | None, seconds: float
) -> None:
    failure = errors.SendError("no", reason="x", status_code=status_code, retry_after=asked)
    assert backoff.rest(failure, retry_after_max=3600.0) == seconds


def test_one_that_refuses_everything_is_left_alone_for_a_moment_after_each() -> None:
    failure = errors.SendError("no", reason="http_500", status_code=500)
    assert backoff.rest(failure, in_a_row=backoff.FAILURES_MIN - 1) == 0.0
    assert backoff.rest(failure, in_a_row=backoff.FAILURES_MIN) == backoff.BREATH
    busy = errors.SendError("no", reason="http_429", status_code=429)
    assert backoff.rest(busy, in_a_row=1000) == backoff.REST


def test_what_is_not_tried_again_says_nothing_about_the_others() -> None:
    failure = errors.SendError(
        "no", reason="x", decision=errors.Decision.DEAD, status_code=429, retry_after=30.0
    )
    assert backoff.rest(failure) == 0.0


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 10.0), (1000, 10.0), (10**9, 10.0)]
)
def test_a_restart_waits_twice_as_long_each_time_up_to_the_cap(failures: int, wait: float) -> None:
    assert backoff.restart(failures, base=0.5, cap=10.0) == wait
