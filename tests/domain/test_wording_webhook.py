"""The webhook's body: its exact shape, and what no upstream can make of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import model, wording
from tests.domain import making

AT = making.CREATED_AT + 125.25
PAYLOAD_MAX = 20_000


def body(
    task: model.Task,
    change: model.Change = model.Change.SUCCEEDED,
    *,
    metadata: Mapping[str, object] | None = None,
) -> bytes:
    return wording.webhook_body(task, change, metadata=metadata, at=AT)


def data(task: model.Task, metadata: Mapping[str, object] | None = None) -> dict[str, object]:
    """The ``data`` a receiver reads, with a strict JSON parser."""

    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is not JSON")

    read = json.loads(body(task, metadata=metadata).decode("utf-8"), parse_constant=refuse)
    assert isinstance(read["data"], dict)
    return read["data"]


def ended(**members: object) -> model.Task:
    return making.task(
        **{
            "status": model.Status.SUCCEEDED,
            "verdict": model.Verdict.ENDED,
            "request_id": "req_demo_model",
            "model": "minimax-hailuo-2-3",
            "cost_estimate": Decimal("0.3294"),
            "cost_actual": Decimal("0.3294"),
            "output": making.OUTPUT,
            "submitted_at": making.CREATED_AT,
            "finished_at": AT,
            **members,
        }
    )


def test_the_whole_body_byte_for_byte() -> None:
    assert body(ended(), metadata={"order": 7, "note": "größer"}) == (
        b'{"type":"task.succeeded","timestamp":"2026-01-31T12:02:05.250Z","data":{'
        b'"task_id":"task_demo_model","request_id":"req_demo_model","upstream":"mindvideo",'
        b'"model":"minimax-hailuo-2-3","status":"succeeded","verdict":"ended",'
        b'"cost_estimate":0.3294,"cost_actual":0.3294,'
        b'"output":{"videos":[{"url":"https://example.com/output/demo.mp4"}]},"error":null,'
        b'"metadata":{"order":7,"note":"gr\xc3\xb6\xc3\x9fer"},'
        b'"submitted_at":"2026-01-31T12:00:00.000Z","finished_at":"2026-01-31T12:02:05.250Z"}}'
    )


def test_what_is_not_known_is_null_and_never_absent() -> None:
    told = data(making.task())
    assert told.pop("task_id") == "task_demo_model"
    assert told.pop("upstream") == "mindvideo"
    assert (told.pop("status"), told.pop("verdict")) == ("queued", "running")
    assert set(told) == {
        "request_id",
        "model",
        "cost_estimate",
        "cost_actual",
        "output",
        "error",
        "metadata",
        "submitted_at",
        "finished_at",
    }
    assert set(told.values()) == {None}


@pytest.mark.parametrize("change", list(model.Change))
def test_the_type_names_the_change(change: model.Change) -> None:
    assert json.loads(body(making.task(), change))["type"] == f"task.{change.value}"


def test_a_lost_task_says_its_last_known_status() -> None:
    told = data(making.task(status=model.Status.PROCESSING, verdict=model.Verdict.LOST, finished_at=AT))
    assert (told["status"], told["verdict"]) == ("processing", "lost")


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_769_860_800.0, "2026-01-31T12:00:00.000Z"),
        (1_769_860_800.9999, "2026-01-31T12:00:00.999Z"),
        (1_769_860_800.0004, "2026-01-31T12:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(at: float, written: str) -> None:
    assert wording.timestamp(at) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0.3294", b"0.3294"),
        ("0.00001", b"1e-05"),
        ("12.34567", b"12.34567"),
        ("5", b"5.0"),
        ("0", b"0.0"),
        ("1E+2", b"100.0"),
    ],
)
def test_money_is_written_as_a_json_number(amount: str, written: bytes) -> None:
    assert b'"cost_actual":' + written + b"," in body(ended(cost_actual=Decimal(amount)))


def test_money_inside_an_output_is_a_number_too() -> None:
    assert data(ended(output={"price": Decimal("0.5")}))["output"] == {"price": 0.5}


# -- size -----------------------------------------------------------------------------------------


def test_an_output_of_up_to_12_kb_is_whole_and_a_longer_one_is_named_as_left_out() -> None:
    exact = "a" * (wording.OUTPUT_MAX - 2)
    told = data(ended(output=exact))
    assert told["output"] == exact
    assert "output_truncated" not in told
    told = data(ended(output=exact + "a"), {"order": 7})
    assert told["output"] is None
    assert told["output_truncated"] is True
    assert told["metadata"] == {"order": 7}


def test_output_is_measured_in_bytes() -> None:
    assert data(ended(output="ü" * 5_000))["output"] is not None
    assert data(ended(output="ü" * 6_000))["output"] is None


def test_a_short_error_is_told_as_it_came() -> None:
    error = {"code": "E1", "message": "no", "inner": [1, None]}
    assert data(ended(error=error))["error"] == error


@pytest.mark.parametrize(
    "error",
    [
        {"code": "E1", "message": "x" * 100_000},
        {"trace": ["x" * 1000] * 100},
        "x" * 100_000,
        "\x01" * 100_000,
        "🎬" * 100_000,
        ["\x01"] * 100_000,
    ],
)
def test_a_huge_error_is_told_as_bounded_text(error: object) -> None:
    told = data(ended(error=error))["error"]
    assert isinstance(told, str)
    assert told
    assert len(json.dumps(told, ensure_ascii=False).encode()) <= wording.ERROR_JSON_MAX


HUGE = {
    "output": {"videos": [{"url": "https://example.com/" + "a" * 11_900}]},
    "error": "\x01" * 50_000,
    "model": "\x01" * 50_000,
    "request_id": "\x01" * 50_000,
    "task_id": "x" * 200,
    "upstream": "u" * 63,
}
METADATA = {"note": "m" * 4_000}


@pytest.mark.parametrize("without", [None, *HUGE])
def test_the_whole_payload_stays_under_20_kb_and_the_metadata_whole(without: str | None) -> None:
    members = {name: value for name, value in HUGE.items() if name != without}
    written = body(ended(**members), metadata=METADATA)
    assert len(written) <= PAYLOAD_MAX
    told = json.loads(written)["data"]
    assert told["metadata"] == METADATA
    assert told["task_id"] == members.get("task_id", "task_demo_model")


def test_an_output_that_only_just_does_not_fit_beside_the_rest_is_left_out() -> None:
    told = data(ended(**HUGE), METADATA)
    assert (told["output"], told["output_truncated"]) == (None, True)


def test_nothing_is_called_truncated_where_there_was_no_output() -> None:
    oversize = {"note": "m" * 30_000}
    assert "output_truncated" not in data(ended(output=None), oversize)


# -- what the border should have kept out -----------------------------------------------------------


@pytest.mark.parametrize("where", ["output", "error", "model", "request_id", "metadata"])
def test_half_a_surrogate_pair_cannot_keep_a_change_from_being_told(where: str) -> None:
    text = "a\ud800b"
    if where == "metadata":
        told = data(ended(), {text: text})["metadata"]
        assert told == {"a?b": "a?b"}
    else:
        assert data(ended(**{where: text}))[where] == "a?b"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("Infinity")])
def test_a_number_that_json_cannot_hold_becomes_null(value: object) -> None:
    told = data(ended(output={"videos": [value, 1.5]}, error={"code": value}), {"n": value, "m": 1})
    assert told["output"] == {"videos": [None, 1.5]}
    assert told["error"] == {"code": None}
    assert told["metadata"] == {"n": None, "m": 1}


def test_a_cost_that_is_no_number_becomes_null() -> None:
    assert data(ended(cost_actual=Decimal("NaN")))["cost_actual"] is None


text = st.text(st.characters(codec=None), max_size=40)
foreign = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)


@making.steady
@given(
    foreign,
    foreign,
    text,
    st.dictionaries(text, foreign, max_size=3),
    st.sampled_from(list(model.Change)),
    st.sampled_from([1, 50, 2000]),
)
def test_any_foreign_json_gives_strict_json_of_bounded_size(
    output: object,
    error: object,
    name: str,
    metadata: dict[str, object],
    change: model.Change,
    times: int,
) -> None:
    task = ended(output=[output] * times, error=[error] * times, model=name * times)
    written = body(task, change, metadata=metadata)
    read = json.loads(written.decode("utf-8"))
    assert list(read) == ["type", "timestamp", "data"]
    assert len(written) <= PAYLOAD_MAX + len(
        json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")
    )
    chat = json.loads(wording.chat_body(task, change, prompt=True, public_url=None))
    assert set(chat) == {"title", "text"}


@pytest.mark.parametrize("form", list(model.Format))
def test_a_notice_reads_the_same_in_both_formats(form: model.Format) -> None:
    written = wording.notice_body(form, type_="relay.test", at=AT, title="🔔 relay test", text="It works.")
    read = json.loads(written)
    if form is model.Format.CHAT:
        assert read == {"title": "🔔 relay test", "text": "It works."}
    else:
        assert read == {
            "type": "relay.test",
            "timestamp": "2026-01-31T12:02:05.250Z",
            "data": {"title": "🔔 relay test", "text": "It works."},
        }
        assert re.match(rb'\{"type":.*,"timestamp":.*,"data":', written)
