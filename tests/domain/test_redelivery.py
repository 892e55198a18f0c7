"""What may be done with a redelivery in which state, its pace, and how its counts agree."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import errors
from relay.domain import redelivery as rules
from relay.domain.redelivery import Action, State

NOW = 1_700_000_000.0


def made(state: State = State.RUNNING, **changes: object) -> rules.Redelivery:
    one = rules.Redelivery(
        id="rdl_a",
        state=state,
        selection=rules.Selection(),
        rate=10.0,
        count=100,
        created_by="key_a",
        created_at=NOW - 10,
        changed_at=NOW - 10,
        finished_at=NOW - 5 if state.ended else None,
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


TABLE = {
    (Action.RUN, State.PREVIEW): State.RUNNING,
    (Action.RUN, State.RUNNING): State.RUNNING,
    (Action.RUN, State.PAUSED): State.RUNNING,
    (Action.RUN, State.DONE): None,
    (Action.RUN, State.CANCELLED): None,
    (Action.PAUSE, State.PREVIEW): None,
    (Action.PAUSE, State.RUNNING): State.PAUSED,
    (Action.PAUSE, State.PAUSED): State.PAUSED,
    (Action.PAUSE, State.DONE): None,
    (Action.PAUSE, State.CANCELLED): None,
    (Action.CANCEL, State.PREVIEW): State.CANCELLED,
    (Action.CANCEL, State.RUNNING): State.CANCELLED,
    (Action.CANCEL, State.PAUSED): State.CANCELLED,
    (Action.CANCEL, State.DONE): None,
    (Action.CANCEL, State.CANCELLED): State.CANCELLED,
}


@pytest.mark.parametrize(("action", "before"), [(a, s) for a in Action for s in State])
def test_what_may_be_done_in_which_state(action: Action, before: State) -> None:
    becomes = TABLE[action, before]
    if becomes is None:
        with pytest.raises(errors.WrongState, match=f"is {before};"):
            rules.after(made(before), action, rate=None, now=NOW)
        return
    changed = rules.after(made(before), action, rate=None, now=NOW)
    assert changed.state is becomes
    assert (changed.finished_at is not None) == becomes.ended
    if becomes is before:
        assert changed == made(before)


def test_running_may_change_the_rate() -> None:
    changed = rules.after(made(), Action.RUN, rate=50.0, now=NOW)
    assert (changed.rate, changed.changed_at, changed.state) == (50.0, NOW, State.RUNNING)
    assert rules.after(changed, Action.PAUSE, rate=None, now=NOW).rate == 50.0


@pytest.mark.parametrize(
    ("rate", "limit", "pause"), [(0.1, 1, 10.0), (1.5, 1, 1 / 1.5), (10.0, 10, 0.1), (1000.0, 500, 0.001)]
)
def test_a_batch_is_a_second_of_the_rate(rate: float, limit: int, pause: float) -> None:
    turn = rules.turn(made(rate=rate), now=NOW)
    assert (turn.start, turn.limit, turn.pause) == (NOW, limit, pytest.approx(pause))


def test_the_next_batch_is_due_right_after_the_last() -> None:
    one = made(paced_until=NOW + 0.8)
    assert rules.wait(one, now=NOW) == pytest.approx(0.7)
    assert rules.wait(one, now=NOW + 0.7) == pytest.approx(0.0, abs=1e-6)
    assert rules.turn(one, now=NOW + 0.75).start == NOW + 0.8
    assert rules.turn(one, now=NOW + 5).start == NOW + 5


@pytest.mark.parametrize("rate", [0.1, 10.0, 1000.0])
def test_a_clock_that_was_set_back_does_not_stop_it(rate: float) -> None:
    one = made(rate=rate, paced_until=NOW + 3600)
    assert rules.wait(one, now=NOW) == 0.0
    assert rules.turn(one, now=NOW).start == NOW


@given(rate=st.floats(rules.RATE_MIN, rules.RATE_MAX), late=st.floats(0, 100), batches=st.integers(1, 30))
def test_no_more_become_due_than_the_rate_allows(rate: float, late: float, batches: int) -> None:
    one, now, due = made(rate=rate), NOW, list[float]()
    for _ in range(batches):
        now += rules.wait(one, now=now)
        turn = rules.turn(one, now=now)
        given_out = [turn.start + place * turn.pause for place in range(turn.limit)]
        due += given_out
        one = rules.advanced(
            one,
            moved=turn.limit,
            skipped=0,
            position=(now, "msg_a"),
            paced_until=given_out[-1] + turn.pause,
            ended=False,
            now=now,
        )
        now += late / batches
    apart = [later - sooner for sooner, later in itertools.pairwise(due)]
    assert all(gap >= (1 / rate) * 0.999 - 1e-6 for gap in apart)


def test_at_its_end_the_counts_agree() -> None:
    behind = made(done=40, skipped=10)
    step = {"position": (NOW, "msg_a"), "paced_until": NOW, "ended": True, "now": NOW}
    left = rules.advanced(behind, moved=5, skipped=1, **step)  # type: ignore[arg-type]
    assert (left.state, left.count, left.done, left.skipped, left.left) == (State.DONE, 100, 45, 55, 0)
    more = rules.advanced(behind, moved=70, skipped=1, **step)  # type: ignore[arg-type]
    assert (more.count, more.done, more.skipped, more.finished_at) == (121, 110, 11, NOW)
