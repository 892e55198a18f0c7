"""When a failing destination is warned of and disabled."""

from __future__ import annotations

import dataclasses

import pytest

from relay.domain import health, model

POLICY = health.Policy(window=1000.0, changes_min=3)
FRESH = model.Health(destination="renders")


def _fail(start: model.Health, *steps: tuple[str, float]) -> tuple[model.Health, list[health.Step]]:
    taken = []
    for delivery_id, now in steps:
        taken.append(health.failed(start, delivery_id, now=now, policy=POLICY))
        start = taken[-1].health
    return start, taken


def test_the_first_failure_is_remembered_and_never_moved() -> None:
    after, _ = _fail(FRESH, ("a", 100.0), ("b", 200.0), ("a", 300.0))
    assert after.failing_since == 100.0
    assert after.failing == ("a", "b")
    assert after.version == 2, "a failure that says nothing new writes nothing"


def test_it_takes_the_window_and_several_deliveries() -> None:
    alone, steps = _fail(FRESH, ("a", 0.0), ("a", 500.0), ("a", 5000.0))
    assert alone.disabled_at is None
    assert not any(step.disabled or step.warning for step in steps)
    early, _ = _fail(FRESH, ("a", 0.0), ("b", 1.0), ("c", 2.0), ("d", 500.0), ("d", 999.0))
    assert early.disabled_at is None
    late, steps = _fail(early, ("e", 1100.0))
    assert steps[-1].disabled
    assert (late.disabled_at, late.disabled_reason) == (1100.0, "failing")
    assert late.hold_reason is model.HoldReason.DISABLED


def test_each_warning_is_told_once_and_the_highest_when_several_are_due() -> None:
    _, steps = _fail(FRESH, ("a", 0.0), ("b", 499.0), ("b", 500.0), ("b", 510.0), ("c", 950.0), ("c", 960.0))
    assert [step.warning for step in steps] == [None, None, 50, None, 90, None]


def test_none_is_disabled_unwarned_after_a_time_in_which_nothing_was_tried() -> None:
    """relay was down, or nothing was owed: the first failure after it finds the window over."""
    quiet, _ = _fail(FRESH, ("a", 0.0), ("b", 1.0), ("c", 2.0))
    warned, steps = _fail(quiet, ("d", 5000.0), ("d", 5099.0))
    assert [(step.warning, step.disabled) for step in steps] == [(90, False), (None, False)]
    assert health.disabled_from(warned, policy=POLICY) == 5100.0
    assert warned.failing_since == 0.0
    late, steps = _fail(warned, ("e", 5100.0))
    assert steps[-1].disabled
    assert late.disabled_at == 5100.0


def test_what_a_warning_says_is_left_of_the_window_passes_first() -> None:
    warned, steps = _fail(FRESH, ("a", 0.0), ("b", 1.0), ("c", 750.0), ("d", 1000.0))
    assert [step.warning for step in steps] == [None, None, 70, 90]
    assert health.disabled_from(warned, policy=POLICY) == 1100.0
    often, _ = _fail(FRESH, ("a", 0.0), ("b", 1.0), ("c", 500.0), ("c", 700.0), ("c", 900.0))
    assert health.disabled_from(often, policy=POLICY) == 1000.0, "warned of in time, at the window's end"
    assert health.disabled_from(FRESH, policy=POLICY) is None
    before = dataclasses.replace(often, warned_at=None)
    assert health.disabled_from(before, policy=POLICY) == 1000.0, "of a database that did not note it"


def test_what_arrives_makes_a_clean_record() -> None:
    failing, _ = _fail(FRESH, ("a", 0.0), ("b", 600.0))
    assert failing.warned == 50
    clean = health.delivered(failing)
    assert (clean.failing_since, clean.failing, clean.warned, clean.warned_at) == (None, (), 0, None)
    assert clean.version > failing.version
    assert health.delivered(clean) is clean, "nothing to write while all is well"
    again, steps = _fail(clean, ("b", 1000.0))
    assert again.failing_since == 1000.0
    assert not steps[0].disabled


def test_a_destination_that_is_gone_is_disabled_at_once_and_once() -> None:
    first = health.disabled(FRESH, reason="http_410", now=5.0)
    assert (first.disabled, first.health.disabled_at, first.health.disabled_reason) == (True, 5.0, "http_410")
    again = health.disabled(first.health, reason="http_404", now=9.0)
    assert not again.disabled
    assert again.health is first.health


@pytest.mark.parametrize("disabled", [False, True])
def test_a_pause_outlasts_a_test_and_ends_with_a_resume(disabled: bool) -> None:
    held = health.paused(FRESH, now=1.0)
    assert held.hold_reason is model.HoldReason.PAUSED
    assert health.paused(held, now=2.0).paused_at == 1.0
    if disabled:
        held = health.disabled(held, reason="http_410", now=3.0).health
        assert held.hold_reason is model.HoldReason.DISABLED
    assert health.enabled(held).hold_reason is model.HoldReason.PAUSED
    assert health.resumed(held).hold_reason is None
