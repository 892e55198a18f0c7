"""What observations mean: statuses, ends, and what is told of them, case by case."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from relay.domain import lifecycle, model
from tests.domain import making

NOW = making.CREATED_AT + 100.0
LATER = NOW + 50.0


def told(fold: lifecycle.Fold) -> list[str]:
    return [change.value for change in fold.changes]


@pytest.mark.parametrize(
    ("words", "changes", "status"),
    [
        ([], [], "queued"),
        ([None], [], "queued"),
        (["queued"], [], "queued"),
        (["processing"], ["processing"], "processing"),
        (["queued", "processing", "processing"], ["processing"], "processing"),
        (["processing", "queued"], ["processing"], "processing"),
        (["rendering"], ["processing"], "processing"),
        (["rendering", "processing", "rendering"], ["processing"], "processing"),
        ([""], ["processing"], "processing"),
    ],
)
def test_a_running_task_moves_forward_only(words: list[str | None], changes: list[str], status: str) -> None:
    fold = lifecycle.fold(making.task(), making.page(*map(making.snapshot, words)), now=NOW)
    assert told(fold) == changes
    assert fold.task.status == status
    assert fold.task.verdict is model.Verdict.RUNNING
    assert fold.task.finished_at is None
    assert fold.unconfirmed is None


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_an_end_with_all_that_it_is_worth_is_told_at_once(end: str) -> None:
    page = making.page(making.snapshot("queued"), making.snapshot("processing"), making.whole(end))
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert told(fold) == ["processing", end]
    assert (fold.task.status, fold.task.verdict) == (end, "ended")
    assert fold.task.finished_at == NOW
    assert (fold.task.output, fold.task.cost_actual) == (making.OUTPUT, making.COST)


@pytest.mark.parametrize(
    "end",
    [
        making.snapshot("succeeded"),
        making.snapshot("succeeded", output=making.OUTPUT),
        making.snapshot("succeeded", cost_actual=making.COST),
        making.whole("succeeded", output={"videos": []}),
        making.whole("succeeded", output={"videos": [{"url": None}]}),
        making.whole("succeeded", output=[]),
        making.whole("succeeded", output=""),
        making.whole("succeeded", output={"videos": [], "images": {"urls": [None]}}),
        making.snapshot("failed", error="out of memory"),
        making.snapshot("cancelled", output=making.OUTPUT),
    ],
)
def test_an_end_that_lacks_output_or_cost_moves_nothing_until_it_is_confirmed(end: model.Snapshot) -> None:
    before = making.task(status=model.Status.PROCESSING)
    fold = lifecycle.fold(before, making.page(end), now=NOW)
    assert fold.unconfirmed is end.status
    assert told(fold) == []
    assert fold.task.status is model.Status.PROCESSING
    assert fold.task.verdict is model.Verdict.RUNNING
    assert fold.task.finished_at is None


def test_what_came_before_an_uncertain_end_is_told_already() -> None:
    page = making.page(making.snapshot("processing"), making.snapshot("succeeded"))
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert told(fold) == ["processing"]
    assert fold.unconfirmed is model.Status.SUCCEEDED


def test_a_free_failure_is_certain() -> None:
    fold = lifecycle.fold(
        making.task(), making.page(making.snapshot("failed", cost_actual=Decimal(0))), now=NOW
    )
    assert told(fold) == ["failed"]
    assert fold.task.cost_actual == 0


def test_of_two_ends_in_one_look_the_first_counts() -> None:
    page = making.page(making.whole("failed", output=None, error="refused"), making.whole("succeeded"))
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert told(fold) == ["failed"]
    assert fold.task.error == "refused"


def test_the_task_endpoint_decides_between_two_ends() -> None:
    page = dataclasses.replace(
        making.page(making.whole("failed")), snapshot=making.whole("succeeded"), authoritative=True
    )
    assert told(lifecycle.fold(making.task(), page, now=NOW)) == ["succeeded"]


def test_a_body_around_the_events_is_no_more_than_another_event() -> None:
    page = dataclasses.replace(making.page(making.whole("failed")), snapshot=making.snapshot("succeeded"))
    assert told(lifecycle.fold(making.task(), page, now=NOW)) == ["failed"]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_the_task_endpoint_needs_no_cost_for_an_end(end: str) -> None:
    fold = lifecycle.fold(making.task(), making.endpoint(making.snapshot(end)), now=NOW)
    assert told(fold) == [end]


def test_the_task_endpoint_needs_no_cost_for_a_success_with_output() -> None:
    page = making.endpoint(making.snapshot("succeeded", output=making.OUTPUT))
    assert told(lifecycle.fold(making.task(), page, now=NOW)) == ["succeeded"]


def test_a_success_without_output_waits_whichever_endpoint_said_it() -> None:
    """Outputs may be attached a moment after the status; told is told."""
    page = making.endpoint(making.snapshot("succeeded", cost_actual=making.COST))
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert told(fold) == []
    assert fold.unconfirmed is model.Status.SUCCEEDED


def test_an_endpoint_with_an_unknown_word_does_not_hide_an_end_in_the_events() -> None:
    page = dataclasses.replace(
        making.page(making.whole("succeeded")), snapshot=making.snapshot("finalising"), authoritative=True
    )
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert told(fold)[-1] == "succeeded"
    assert fold.unknown_statuses == ("finalising",)


def test_unknown_words_are_reported_once_each_in_order() -> None:
    words = ["rendering", "moderating", "rendering", "processing"]
    fold = lifecycle.fold(making.task(), making.page(*map(making.snapshot, words)), now=NOW)
    assert fold.unknown_statuses == ("rendering", "moderating")


def test_an_empty_word_is_unknown_and_nothing_to_report() -> None:
    fold = lifecycle.fold(making.task(), making.page(making.snapshot("")), now=NOW)
    assert fold.unknown_statuses == ()


def test_unknown_words_after_the_end_are_still_reported() -> None:
    ended = making.task(status=model.Status.FAILED, verdict=model.Verdict.ENDED, finished_at=NOW)
    fold = lifecycle.fold(ended, making.page(making.snapshot("archived")), now=LATER)
    assert fold.unknown_statuses == ("archived",)
    assert fold.task == ended


@pytest.mark.parametrize("verdict", [model.Verdict.ENDED, model.Verdict.LOST])
@pytest.mark.parametrize("word", ["queued", "processing", "succeeded", "failed", "cancelled"])
def test_nothing_is_told_after_the_end(verdict: model.Verdict, word: str) -> None:
    status = model.Status.FAILED if verdict is model.Verdict.ENDED else model.Status.PROCESSING
    ended = making.task(status=status, verdict=verdict, finished_at=NOW, output=making.OUTPUT, error="x")
    for page in (making.page(making.snapshot(word)), making.endpoint(making.whole(word, cost_actual=None))):
        fold = lifecycle.fold(ended, page, now=LATER)
        assert fold.changes == ()
        assert fold.unconfirmed is None
        assert fold.task == ended


def test_a_late_cost_and_output_fill_what_was_missing() -> None:
    ended = making.task(status=model.Status.SUCCEEDED, verdict=model.Verdict.ENDED, finished_at=NOW)
    fold = lifecycle.fold(ended, making.page(making.whole("succeeded")), now=LATER)
    assert fold.changes == ()
    assert fold.task == dataclasses.replace(ended, cost_actual=making.COST, output=making.OUTPUT)


def test_an_empty_output_is_no_output_that_a_late_one_would_have_to_yield_to() -> None:
    empty = making.snapshot("succeeded", output={"videos": []}, cost_actual=making.COST)
    waiting = lifecycle.fold(making.task(), making.endpoint(empty), now=NOW).task
    ended = lifecycle.settle(waiting, model.Status.SUCCEEDED, empty, now=NOW, out_of_time=True).task
    fold = lifecycle.fold(ended, making.page(making.whole("succeeded"), empty), now=LATER)
    assert fold.task.output == making.OUTPUT


def test_what_is_known_is_not_overwritten_after_the_end() -> None:
    ended = lifecycle.fold(making.task(), making.page(making.whole("succeeded")), now=NOW).task
    again = making.whole("succeeded", cost_actual=Decimal(9), output={"videos": ["other"]})
    assert lifecycle.fold(ended, making.page(again), now=LATER).task == ended


def test_the_end_s_own_cost_and_output_win_over_provisional_ones() -> None:
    preview = making.snapshot(
        "processing", cost_actual=Decimal(0), output={"preview": "https://example.com/p"}
    )
    fold = lifecycle.fold(making.task(), making.page(preview, making.whole("succeeded")), now=NOW)
    assert (fold.task.output, fold.task.cost_actual) == (making.OUTPUT, making.COST)


def test_a_success_carries_no_error_of_the_way_there() -> None:
    stumble = making.snapshot("processing", error="node lost, trying again")
    page = making.page(stumble, making.whole("succeeded"))
    ended = lifecycle.fold(making.task(), page, now=NOW).task
    assert ended.error is None
    assert lifecycle.fold(ended, page, now=LATER).task == ended
    in_steps = lifecycle.fold(making.task(), making.page(stumble), now=NOW).task
    assert in_steps.error == "node lost, trying again"
    fold = lifecycle.fold(in_steps, making.endpoint(making.whole("succeeded")), now=NOW)
    assert fold.task.error is None


def test_a_success_keeps_a_warning_of_its_own() -> None:
    page = making.page(making.whole("succeeded", error="watermark could not be removed"))
    fold = lifecycle.fold(making.task(), page, now=NOW)
    assert fold.task.error == "watermark could not be removed"


def test_a_failure_keeps_the_reason_that_was_seen_before_it() -> None:
    page = making.page(
        making.snapshot("processing", error="content policy"),
        making.snapshot("failed", cost_actual=Decimal(0)),
    )
    assert lifecycle.fold(making.task(), page, now=NOW).task.error == "content policy"


def test_names_are_learnt_and_then_stay() -> None:
    first = lifecycle.fold(
        making.task(), making.page(making.snapshot("queued", request_id="req_a", model="veo3-1")), now=NOW
    ).task
    assert (first.request_id, first.model) == ("req_a", "veo3-1")
    page = making.page(making.snapshot("processing", request_id="req_b", model="other"))
    second = lifecycle.fold(first, page, now=NOW).task
    assert (second.request_id, second.model) == ("req_a", "veo3-1")


# -- settling an end that is not certain ----------------------------------------------------------


def settle(
    end: model.Status, authority: model.Snapshot, *, out_of_time: bool, **members: object
) -> lifecycle.Fold:
    return lifecycle.settle(making.task(**members), end, authority, now=NOW, out_of_time=out_of_time)


@pytest.mark.parametrize("out_of_time", [False, True])
@pytest.mark.parametrize("end", making.ENDS)
@pytest.mark.parametrize("own", ["failed", "cancelled"])
def test_the_endpoint_s_own_end_wins_at_once(end: model.Status, own: str, out_of_time: bool) -> None:
    fold = settle(end, making.snapshot(own, error="why"), out_of_time=out_of_time)
    assert told(fold) == [own]
    assert (fold.task.status, fold.task.error, fold.task.finished_at) == (own, "why", NOW)


@pytest.mark.parametrize("end", making.ENDS)
def test_the_endpoint_s_success_with_output_is_believed_without_a_cost(end: model.Status) -> None:
    fold = settle(end, making.snapshot("succeeded", output=making.OUTPUT), out_of_time=False)
    assert told(fold) == ["succeeded"]
    assert fold.task.output == making.OUTPUT


@pytest.mark.parametrize("end", making.ENDS)
def test_a_success_without_output_waits_then_is_believed(end: model.Status) -> None:
    authority = making.snapshot("succeeded", output={"videos": []}, cost_actual=making.COST)
    waiting = settle(end, authority, out_of_time=False)
    assert (told(waiting), waiting.unconfirmed) == ([], model.Status.SUCCEEDED)
    assert waiting.task.verdict is model.Verdict.RUNNING
    assert waiting.task.cost_actual == making.COST
    believed = settle(end, authority, out_of_time=True)
    assert (told(believed), believed.unconfirmed) == (["succeeded"], None)
    assert believed.task.output is None


@pytest.mark.parametrize("end", making.ENDS)
@pytest.mark.parametrize("word", ["queued", "processing", "finalising", None])
def test_an_endpoint_that_says_running_is_asked_until_out_of_time(
    end: model.Status, word: str | None
) -> None:
    waiting = settle(end, making.snapshot(word), out_of_time=False, status=model.Status.PROCESSING)
    assert (told(waiting), waiting.unconfirmed) == ([], end)
    assert waiting.task.status is model.Status.PROCESSING
    believed = settle(end, making.snapshot(word), out_of_time=True, status=model.Status.PROCESSING)
    assert told(believed) == [end.value]
    assert (believed.task.status, believed.task.verdict) == (end, model.Verdict.ENDED)
    assert believed.task.finished_at == NOW


def test_a_believed_end_keeps_what_its_event_carried() -> None:
    seen = making.page(making.snapshot("succeeded", output=making.OUTPUT))
    uncertain = lifecycle.fold(making.task(), seen, now=NOW)
    fold = lifecycle.settle(
        uncertain.task, model.Status.SUCCEEDED, making.snapshot("processing"), now=LATER, out_of_time=True
    )
    assert fold.task.output == making.OUTPUT
    assert fold.task.finished_at == LATER


def test_a_believed_end_takes_what_the_endpoint_knows_already() -> None:
    authority = making.snapshot("processing", cost_actual=making.COST, output=making.OUTPUT)
    provisional = {"cost_actual": Decimal(0), "output": {"preview": "https://example.com/p"}}
    fold = settle(model.Status.SUCCEEDED, authority, out_of_time=True, **provisional)
    assert (fold.task.cost_actual, fold.task.output) == (making.COST, making.OUTPUT)


# -- relay's own conclusions ------------------------------------------------------------------------


def test_a_stall_is_told_once_and_the_task_may_still_end() -> None:
    fold = lifecycle.stall(making.task(), now=NOW)
    assert told(fold) == ["stalled"]
    assert (fold.task.verdict, fold.task.stalled_at, fold.task.finished_at) == ("stalled", NOW, None)
    assert lifecycle.stall(fold.task, now=LATER) == lifecycle.Fold(task=fold.task)
    ended = lifecycle.fold(fold.task, making.page(making.whole("succeeded")), now=LATER)
    assert told(ended) == ["succeeded"]
    assert (ended.task.verdict, ended.task.stalled_at, ended.task.finished_at) == ("ended", NOW, LATER)
    assert told(lifecycle.stall(ended.task, now=LATER)) == []


@pytest.mark.parametrize("status", [model.Status.QUEUED, model.Status.PROCESSING])
@pytest.mark.parametrize("verdict", [model.Verdict.RUNNING, model.Verdict.STALLED])
def test_a_lost_task_is_told_like_an_end_and_never_called_failed(
    status: model.Status, verdict: model.Verdict
) -> None:
    fold = lifecycle.lose(making.task(status=status, verdict=verdict), now=NOW)
    assert told(fold) == ["lost"]
    assert (fold.task.status, fold.task.verdict, fold.task.finished_at) == (status, "lost", NOW)
    assert lifecycle.lose(fold.task, now=LATER) == lifecycle.Fold(task=fold.task)
    assert told(lifecycle.stall(fold.task, now=LATER)) == []


def test_a_task_that_ended_cannot_be_lost() -> None:
    ended = lifecycle.fold(making.task(), making.page(making.whole("succeeded")), now=NOW).task
    assert lifecycle.lose(ended, now=LATER) == lifecycle.Fold(task=ended)


# -- for destinations added later ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "owed"),
    [
        ({}, []),
        ({"status": model.Status.PROCESSING}, []),
        ({"verdict": model.Verdict.STALLED, "stalled_at": NOW}, ["stalled"]),
        ({"verdict": model.Verdict.LOST, "finished_at": NOW}, ["lost"]),
        ({"verdict": model.Verdict.LOST, "stalled_at": NOW, "finished_at": NOW}, ["lost"]),
        *[
            ({"verdict": model.Verdict.ENDED, "status": end, "finished_at": NOW}, [end])
            for end in making.ENDS
        ],
        (
            {
                "verdict": model.Verdict.ENDED,
                "status": model.Status.FAILED,
                "stalled_at": NOW,
                "finished_at": NOW,
            },
            ["failed"],
        ),
    ],
)
def test_a_destination_added_now_is_owed_the_end(members: dict[str, object], owed: list[str]) -> None:
    assert list(lifecycle.changes_so_far(making.task(**members))) == owed


def test_everybody_hears_the_same_time_of_an_end() -> None:
    ended = making.task(
        verdict=model.Verdict.ENDED, status=model.Status.FAILED, stalled_at=NOW, finished_at=LATER
    )
    much_later = LATER + 86_400.0
    assert lifecycle.happened_at(ended, model.Change.FAILED, now=much_later) == LATER
    assert lifecycle.happened_at(ended, model.Change.STALLED, now=much_later) == NOW
    lost = making.task(verdict=model.Verdict.LOST, finished_at=NOW)
    assert lifecycle.happened_at(lost, model.Change.LOST, now=much_later) == NOW


@pytest.mark.parametrize("change", [model.Change.QUEUED, model.Change.PROCESSING])
def test_a_status_on_the_way_happens_when_it_is_noticed(change: model.Change) -> None:
    assert lifecycle.happened_at(making.task(), change, now=LATER) == LATER
