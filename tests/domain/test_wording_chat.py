"""What people read in chat and mail, and what a hostile prompt or error cannot do there."""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import model, wording
from tests.domain import making

Change = model.Change
LINK = "https://example.com/output/demo.mp4"


def message(
    task: model.Task, change: Change, *, prompt: bool = True, public_url: str | None = None
) -> tuple[str, list[str]]:
    read = json.loads(wording.chat_body(task, change, prompt=prompt, public_url=public_url))
    return read["title"], read["text"].split("\n")


def lines(change: Change = Change.SUCCEEDED, **members: object) -> list[str]:
    return message(making.task(**members), change)[1]


def succeeded(**members: object) -> model.Task:
    return making.task(
        **{
            "status": model.Status.SUCCEEDED,
            "verdict": model.Verdict.ENDED,
            "model": "minimax-hailuo-2-3",
            "cost_estimate": Decimal("0.3294"),
            "cost_actual": Decimal("0.3"),
            "output": making.OUTPUT,
            "prompt": "A cinematic portrait shot",
            "submitted_at": making.CREATED_AT,
            "finished_at": making.CREATED_AT + 125.0,
            **members,
        }
    )


def test_a_success_reads_well_and_starts_with_the_link() -> None:
    title, text = message(succeeded(), Change.SUCCEEDED, public_url="https://relay.example.com/")
    assert title == "✅ minimax-hailuo-2-3 succeeded"
    assert text == [
        LINK,
        "Status: succeeded",
        "Took: 2 min 5 s",
        "Cost: 0.3 (estimated 0.3294)",
        "Prompt: A cinematic portrait shot",
        "Task: mindvideo:task_demo_model",
        "https://relay.example.com/api/v1/tasks/mindvideo:task_demo_model",
    ]


def test_a_failure_says_why_first() -> None:
    task = succeeded(
        status=model.Status.FAILED, output=None, error={"code": "E7", "message": "out of memory"}, prompt=None
    )
    title, text = message(task, Change.FAILED)
    assert title == "❌ minimax-hailuo-2-3 failed"
    assert text[:2] == ["Error: E7: out of memory", "Status: failed"]


@pytest.mark.parametrize("change", list(Change))
def test_every_change_has_a_title_of_its_own(change: Change) -> None:
    title, _ = message(making.task(), change)
    assert title.endswith(f" task {change.value}")
    assert not title[0].isascii()


def test_a_task_that_nothing_is_known_of_still_reads_well() -> None:
    assert lines(Change.CANCELLED, status=model.Status.CANCELLED) == [
        "Status: cancelled",
        "Task: mindvideo:task_demo_model",
    ]


def test_a_success_without_links_says_so() -> None:
    assert lines(Change.SUCCEEDED, output={"videos": []})[0] == (
        "It succeeded without an output link; it may have been filtered."
    )


def test_a_stall_and_a_loss_say_what_is_known_and_never_failed() -> None:
    stalled = lines(Change.STALLED, verdict=model.Verdict.STALLED, stalled_at=making.CREATED_AT + 7201.0)
    assert stalled[0] == "No end after 2 h 0 min; relay goes on asking."
    lost = lines(Change.LOST, verdict=model.Verdict.LOST, status=model.Status.PROCESSING)
    assert lost[0] == "The upstream no longer knows this task; its last known status is processing."
    assert "failed" not in "\n".join(stalled + lost)


def test_an_error_is_not_shown_beside_a_success() -> None:
    assert not [line for line in lines(output=making.OUTPUT, error="watermark") if "watermark" in line]


def test_prompts_are_not_quoted_where_they_are_not_wanted() -> None:
    secret = "the secret product"
    _, text = message(succeeded(prompt=secret), Change.SUCCEEDED, prompt=False)
    assert not [line for line in text if secret in line or "Prompt" in line]


@pytest.mark.parametrize(
    ("actual", "estimate", "written"),
    [
        ("0.3", "0.3294", "Cost: 0.3 (estimated 0.3294)"),
        ("0.3", None, "Cost: 0.3"),
        (None, "0.3294", "Cost: estimated 0.3294"),
        ("0", "0.3294", "Cost: 0 (estimated 0.3294)"),
        ("1E+2", "1E-7", "Cost: 100 (estimated 0.0000001)"),
    ],
)
def test_costs_are_written_as_people_write_them(
    actual: str | None, estimate: str | None, written: str
) -> None:
    shown = lines(
        cost_actual=None if actual is None else Decimal(actual),
        cost_estimate=None if estimate is None else Decimal(estimate),
    )
    assert [line for line in shown if line.startswith("Cost")] == [written]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125.0, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (7_320.0, "2 h 2 min"),
        (200_000.0, "55 h 33 min"),
    ],
)
def test_elapsed_time_in_words(seconds: float, words: str) -> None:
    task = making.task(submitted_at=making.CREATED_AT + 10.0)
    assert wording.elapsed(task, now=making.CREATED_AT + 10.0 + seconds) == words
    assert wording.elapsed(making.task(), now=making.CREATED_AT + seconds) == words


def test_no_time_at_all_is_no_time_elapsed() -> None:
    assert wording.elapsed(making.task(), now=None) == "0 s"


# -- links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output",
    [
        LINK,
        [LINK],
        {"url": LINK},
        {"videos": [{"url": LINK}]},
        {"result": {"data": {"videos": [{"file": {"url": LINK}}]}}},
        [[[[LINK]]]],
        {"url": LINK, "video": {"url": LINK}},
        {"seed": 7, "note": "see " + LINK, "url": LINK},
    ],
)
def test_a_link_is_found_however_it_is_nested_and_shown_once(output: object) -> None:
    assert list(wording.output_links(output)) == [LINK]


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "//example.com/a",
        "https://",
        "http:/example.com",
        " https://example.com/a",
        "https://example.com/a b",
        "https://example.com/a\nhttps://evil.example",
        "https://example.com/<@U123>",
        "https://example.com/|text>",
        'https://example.com/"onmouseover=',
        "https://example.com/`a`",
        "https://example.com\\@evil.example",
        "https://example.com/\u202egpj.exe",
        "https://example.com/\u200b",
        "https://example.com/\u2066a",
        "https://example.com/\x9b31m",
        "https://example.com/\x1b[31m",
        "https://example.com/\x7f",
        "https://example.com/\u2028",
        "https://example.com/\ud800",
        "https://example.com/\ufeff",
        "https://" + "a" * 2001,
    ],
)
def test_what_is_no_clean_link_is_never_shown_as_one(text: str) -> None:
    assert list(wording.output_links({"videos": [{"url": text}]})) == []
    assert text not in "\n".join(lines(output=text))


@pytest.mark.parametrize(
    "link",
    [
        "http://example.com/a",
        "HTTPS://EXAMPLE.COM/a",
        "https://cdn.example.com/a_b~c(1).mp4?X-Amz-Signature=0%2F&expires=1#t=3",
        "https://例え.example/動画.mp4",
        "https://[2001:db8::1]:8443/a",
    ],
)
def test_links_are_shown_as_they_came(link: str) -> None:
    assert lines(output={"url": link})[0] == link


def test_many_links_are_counted_after_the_first_four() -> None:
    output = [f"https://example.com/{number}" for number in range(30)]
    shown = lines(output=output)
    assert shown[:5] == [*output[:4], "and 26 more"]
    assert lines(output=output[:4])[4] == "Status: queued"


def test_links_deeper_than_anybody_looks_cost_nothing() -> None:
    output: object = LINK
    for _ in range(500):
        output = [output]
    assert list(wording.output_links(output)) == []


# -- foreign text ---------------------------------------------------------------------------------------

HOSTILE = [
    "@everyone look",
    "@here",
    "hi @all and @user_name",
    "<!channel> <!here> <@U123> <#C123> <@&456>",
    "<https://evil.example|click>",
    "[click](https://evil.example)",
    "![x](http://evil.example/track.png)",
    "see https://evil.example/a",
    "see HTTP://EVIL.EXAMPLE",
    "tg://join?invite=x",
    "evil.example/login or www.evil.example",
    "bücher.example and ok.рф",
    "mail root@evil.example",
    "**bold** *it* __u__ _i_ ~~s~~ ||spoiler|| `code` ```block```",
    "# heading",
    "> quote",
    "<b>html</b> <script>alert(1)</script> <img src=x>",
    "#channel",
    "a\u202egpj.exe\u202c",
    "a\u2066b\u2069",
    "zero\u200bwidth\u200djoin\ufeff",
    "\x1b[31mred\x1b[0m \x9b31m \x07 \x00",
    "half \ud800 pair",
    "two\r\nlines\u2028three\u2029four\x85five\x0bsix",
]
LOUD = re.compile(r"@\w|://|[<>`*_~|\[\]#]|\w\.[^\W\d_]")


def quiet(text: str) -> None:
    """No mention, markup, link, line break, or character that nobody sees (but the breaking one)."""
    assert LOUD.search(text) is None, text
    assert [c for c in text if unicodedata.category(c)[0] == "C" and c != "\u200b"] == []
    assert len(text.splitlines()) <= 1


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_neither_rings_nor_links_nor_marks_up(text: str) -> None:
    quiet(wording.safe(text, limit=500))
    task = making.task(
        status=model.Status.FAILED, model=text, error=text, prompt=text, verdict=model.Verdict.ENDED
    )
    title, shown = message(task, Change.FAILED)
    quiet(title)
    assert len(shown) == 4
    for line in shown:
        if not line.startswith("Task: "):
            quiet(line)


@making.steady
@given(st.text(st.characters(codec=None), max_size=400), st.integers(2, 100))
def test_no_text_at_all_gets_through_loud_or_long(text: str, limit: int) -> None:
    quiet(wording.safe(text, limit=limit))
    cut = wording.excerpt(text, limit=limit)
    assert len(cut) <= limit
    assert cut == " ".join(cut.split())


@pytest.mark.parametrize(
    "text",
    ["A cat, 4K; 0.5 s (slow) - 16:9 & more!", "größer", "猫が歩く。", "50% off? yes/no", "v2.0 + 1.5"],
)
def test_ordinary_text_reads_as_it_was_written(text: str) -> None:
    assert wording.safe(text, limit=100) == text


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("short", 5, "short"),
        ("too long", 5, "too…"),
        ("abcdefgh", 5, "abcd…"),
        ("  a \n\t b  ", 10, "a b"),
        ("", 5, ""),
        ("a" + " " * 1000 + "b", 5, "a…"),
    ],
)
def test_an_excerpt_says_that_something_is_missing(text: str, limit: int, cut: str) -> None:
    assert wording.excerpt(text, limit=limit) == cut


def test_a_megabyte_of_prompt_error_and_name_makes_a_short_message() -> None:
    huge = "@a.b " * 200_000
    task = making.task(model=huge, error=huge, prompt=huge, status=model.Status.FAILED)
    assert len(wording.chat_body(task, Change.FAILED, prompt=True, public_url=None)) < 8_000


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("boom", "boom"),
        ({"code": "E7", "message": "no", "detail": "gpu", "other": 1}, "E7: no: gpu"),
        ({"message": "no"}, "no"),
        ({"code": 7}, '{"code":7}'),
        ({"inner": {"message": "no"}}, '{"inner":{"message":"no"}}'),
        (["a", 1], '["a",1]'),
        (7, "7"),
        (float("nan"), "null"),
        ("x" * 5000, "x" * 2000),
        ({"message": "x" * 5000}, "x" * 2000),
        (["\ud800"], '["?"]'),
    ],
)
def test_an_error_of_any_shape_has_readable_text(error: object, text: str) -> None:
    assert wording.error_text(error) == text
