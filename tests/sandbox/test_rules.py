"""What becomes of a task, without HTTP."""

from __future__ import annotations

import random
import statistics
from decimal import Decimal

import pytest

from relay.catalogue import loading, models
from relay.domain import model as domain
from relay.sandbox import injection, rules, tasks

MODELS = loading.load()
NOW = 1_750_000_000.0


def model(slug: str) -> models.Model:
    found = MODELS.find(slug)
    assert found is not None
    return found


def plan(
    slug: str = "minimax-hailuo-2-3", *, seed: int = 1, speed: float = 1.0, **task_input: object
) -> rules.Plan:
    words = injection.in_prompt(task_input)
    return rules.plan(model(slug), task_input, words=words, now=NOW, speed=speed, rng=random.Random(seed))


@pytest.mark.parametrize(
    ("prompt", "end"),
    [
        ("a cat", "succeeded"),
        ("a cat [fail]", "failed"),
        ("[cancel] a cat", "cancelled"),
        ("[cancel] then [fail]", "cancelled"),
        ("[moderated]", "failed"),
        ("[429] and [out-of-order] and [fail]", "failed"),
        ("[FAIL] is no word", "succeeded"),
        (7, "succeeded"),
        (None, "succeeded"),
    ],
)
def test_the_prompt_decides_the_end(prompt: object, end: str) -> None:
    assert [step.status for step in plan(prompt=prompt).steps] == ["queued", "processing", end]


def test_steps_follow_each_other() -> None:
    made = plan()
    queued, processing, end = made.steps
    assert queued.at == NOW < processing.at < end.at == made.ends_at
    for now, reached in [(NOW - 5, 1), (NOW, 1), (processing.at, 2), (end.at - 0.001, 2), (end.at, 3)]:
        assert made.moment(now).reached == reached
    assert [made.next_at(reached) for reached in (1, 2)] == [processing.at, end.at]


def test_a_plan_without_an_end_never_ends() -> None:
    made = rules.Plan((rules.Step(NOW, domain.Status.QUEUED),))
    assert made.ends_at == made.next_at(1) == float("inf")
    assert not made.ended(made.moment(NOW + 1e9).reached)


def test_a_stalled_task_is_processed_for_ever() -> None:
    made = plan(prompt="[stall] [fail]")
    assert [step.status for step in made.steps] == ["queued", "processing"]
    assert made.ends_at == float("inf")


def test_when_outputs_appear_and_how_long_links_last() -> None:
    at_once, late, never = (
        plan(prompt="x"),
        plan(prompt="[late-output]", speed=10),
        plan(prompt="[no-output]"),
    )
    assert (at_once.output_at, at_once.links_until) == (at_once.ends_at, float("inf"))
    assert not at_once.moment(at_once.ends_at - 0.001).has_output
    assert late.output_at == late.ends_at + rules.LATE_SECONDS / 10
    assert never.output_at == float("inf")
    assert plan(prompt="[fail] [late-output]").output_at == float("inf")
    expiring = plan(prompt="[expired-url]", speed=10)
    assert expiring.links_until == expiring.output_at + rules.LINK_SECONDS / 10


def test_a_share_of_tasks_gets_a_fault_and_faults_do_not_move_each_other() -> None:
    def drawn(*options: str) -> list[injection.Words]:
        attempts = injection.Attempts(seed="s", rates=injection.rates(options))
        return [attempts.of((b"o", str(number)), {}).words for number in range(2000)]

    alone = [injection.Word.FAIL in words for words in drawn("fail:0.2")]
    both = [injection.Word.FAIL in words for words in drawn("429:0.5", "fail:0.2", "stall:0")]
    assert alone == both
    assert 300 < sum(alone) < 500
    assert set(drawn("stall")) == {(injection.Word.STALL,)}
    assert set(drawn()) == {()}


def test_abandoned_creates_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injection, "ATTEMPTS_MAX", 2)
    attempts = injection.Attempts(seed="s", rates={})
    for key in ("a", "b", "c"):
        attempts.of((b"o", key), {"prompt": "[429]"}).refusals.clear()
    assert attempts.of((b"o", "c"), {"prompt": "[429]"}).refusals == []
    assert attempts.of((b"o", "a"), {"prompt": "[429]"}).refusals == [injection.Word.RATE_LIMITED]


def test_speed_divides_time() -> None:
    slow, fast = plan(), plan(speed=100)
    assert fast.ends_at - NOW == pytest.approx((slow.ends_at - NOW) / 100)


@pytest.mark.parametrize(
    ("slug", "task_input", "seconds"),
    [
        ("minimax-hailuo-2-3", {"resolution": "768p"}, 120),
        ("minimax-hailuo-2-3", {"resolution": "1080p"}, 240),
        ("kling-v3", {"mode": "std"}, 160),
        ("kling-v3", {"mode": "4k"}, 320),
        ("veo3-1-fast-official", {}, 40),
        ("veo3-1-quality", {}, 90),
        ("doubao-seedance-1-0-pro-fast", {}, 45),
        ("doubao-seedance-1-0-pro-quality", {}, 115),
        ("viduq3-pro", {}, 240),
        ("viduq3-turbo", {}, 120),
        ("skyreels-v4-fast", {}, 120),
        ("wan2-7-image", {}, 25),
        ("apimart-doubao-seedance-4-0", {}, 25),
        ("kling-v3", {"mode": ["pro"]}, 160),
    ],
)
def test_medians_of_the_families(slug: str, task_input: dict[str, object], seconds: float) -> None:
    assert rules.median_seconds(model(slug), task_input) == seconds


def test_durations_are_log_normal_around_the_median() -> None:
    rng = random.Random(0)
    seconds = sorted(
        rules.plan(model("wan2-5-preview"), {}, now=0.0, speed=1.0, rng=rng).ends_at for _ in range(4000)
    )
    assert statistics.median(seconds) == pytest.approx(120, rel=0.05)
    assert seconds[3800] == pytest.approx(120 * 2.718281828 ** (1.645 * rules.SIGMA), rel=0.07)


@pytest.mark.parametrize(
    ("task_input", "count"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 0}, 1),
        ({"n": 10**30}, 4),
        ({"n": True}, 1),
        ({"n": "2"}, 1),
        ({"sample_count": 2}, 2),
    ],
)
def test_outputs_are_as_many_as_asked_and_bounded(task_input: dict[str, object], count: int) -> None:
    assert rules.outputs(task_input) == count


@pytest.mark.parametrize(
    ("status", "cost"),
    [("queued", None), ("processing", None), ("succeeded", "0.3"), ("failed", "0"), ("cancelled", "0")],
)
def test_only_a_success_costs(status: str, cost: str | None) -> None:
    expected = None if cost is None else Decimal(cost)
    assert rules.cost_actual(domain.Status(status), Decimal("0.3")) == expected


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def test_the_first_to_end_makes_room_and_the_running_stay() -> None:
    clock = Clock()
    book = tasks.Tasks(seed="s", speed=1.0, clock=clock, tasks_max=2)

    def create(key: str) -> tasks.Task:
        task = book.create(owner=b"o", model=model("minimax-hailuo-2-3"), task_input={})
        book.remember(task, key=key, made=tasks.Made(fingerprint=b"", answer=key.encode()))
        return task

    first, second = sorted((create("a"), create("b")), key=lambda task: task.plan.ends_at)
    with pytest.raises(tasks.Full):
        create("c")
    assert book.find(first.id)
    assert book.find(second.id)

    clock.now = first.plan.ends_at
    third = create("c")
    assert book.find(first.id) is None
    assert book.find(second.id)
    assert book.find(third.id)
    remembered = {key for key in "abc" if book.made(owner=b"o", key=key)}
    assert len(remembered) == 2
    assert "c" in remembered
