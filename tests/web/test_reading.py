"""The strict reader: what is refused, with which status, and where the pointer points."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.web import problems, reading
from relay.web.schemas import registrations as schemas
from relay.web.schemas import tasks as task_schemas

FITTING_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
FITTING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | FITTING_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FITTING_TEXT, inner, max_size=4),
    max_leaves=20,
)


def refusal(raw: bytes) -> problems.Problem:
    with pytest.raises(problems.Problem) as caught:
        reading.parse(raw)
    return caught.value


@given(FITTING)
def test_reads_what_is_fit_exactly(value: Any) -> None:
    assert reading.parse(json.dumps(value).encode()) == value
    assert reading.parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200) | st.text().map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(problems.Problem):
        reading.parse(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"a": ', "line 1, column 7"),
        (b'{"a": \xff}', "not UTF-8 text (at byte 6)"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b"{'a': 1}", "not JSON"),
        (b"[" * 100_000, "nests deeper"),
    ],
)
def test_no_json_is_a_400_that_says_where(raw: bytes, says: str) -> None:
    problem = refusal(raw)
    assert problem.status == 400
    assert says in problem.detail


@pytest.mark.parametrize(
    ("raw", "pointer", "says"),
    [
        (b'{"input": {"prompt": "a", "prompt": "b"}}', "/input/prompt", "more than once"),
        (b'{"input": {"prompt": "a\\u0000b"}}', "/input/prompt", "NUL"),
        (b'{"input": {"a\\u0000b": 1}}', "/input", "NUL"),
        (b'{"input": ["x", "\\ud800"]}', "/input/1", "surrogate"),
        (b'{"input": {"seed": 9223372036854775808}}', "/input/seed", "64 bits"),
        (b'{"input": {"seed": -9223372036854775809}}', "/input/seed", "64 bits"),
        (b'{"n": ' + b"9" * 5000 + b"}", "/n", "64 bits"),
        (b'{"n": 1e400}', "/n", "out of the range"),
        (b'{"a/b": {"c~d": 1e400}}', "/a~1b/c~0d", "out of the range"),
        (b"[" * 65 + b"]" * 65, "/0" * 64, "nests deeper than 64 levels"),
    ],
)
def test_unfit_values_are_a_422_with_a_pointer(raw: bytes, pointer: str, says: str) -> None:
    problem = refusal(raw)
    assert problem.status == 422
    assert [fault.pointer for fault in problem.faults] == [pointer]
    assert says in problem.faults[0].detail


def test_nesting_up_to_the_limit_is_read() -> None:
    assert reading.parse(b"[" * 64 + b"]" * 64) is not None


def test_all_unfit_values_are_told_at_once() -> None:
    problem = refusal(b'{"a": 1e400, "b": ["\\u0000"], "c": 99999999999999999999}')
    assert [fault.pointer for fault in problem.faults] == ["/a", "/b/0", "/c"]
    assert problem.detail == "The request has 3 faults; see errors."


def faults_of(model: type[Any], value: object) -> dict[str | None, str]:
    with pytest.raises(problems.Problem) as caught:
        reading.validate(model, value)
    assert caught.value.status == 422
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_wrong_types_are_all_told_with_pointers() -> None:
    found = faults_of(
        task_schemas.NewTask,
        {
            "model": 5,
            "input": "a cat",
            "notify": ["renders", 7],
            "statuses": ["done"],
            "metadata": [],
            "upstream": False,
        },
    )
    assert set(found) == {"/model", "/input", "/notify/1", "/statuses/0", "/metadata", "/upstream"}
    assert found["/input"] == "must be an object"
    assert "'succeeded'" in found["/statuses/0"]


def test_missing_members_are_named() -> None:
    assert faults_of(task_schemas.NewTask, {}) == {"/model": "is required", "/input": "is required"}


def test_a_body_that_is_no_object_is_refused() -> None:
    assert faults_of(schemas.Wishes, []) == {"": "The body must be a JSON object."}


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("notfy", "did you mean 'notify'?"),
        ("status", "did you mean 'statuses'?"),
        ("zzz", "is not known here"),
    ],
)
def test_unknown_members_of_our_own_bodies_are_refused(member: str, says: str) -> None:
    assert says in faults_of(schemas.Wishes, {member: []})[f"/{member}"]


def test_limits_of_notify_and_metadata() -> None:
    found = faults_of(schemas.Wishes, {"notify": [f"d{n}" for n in range(33)], "metadata": {"x": "é" * 2045}})
    assert set(found) == {"/notify", "/metadata"}
    assert "32" in found["/notify"]
    assert "4096" in found["/metadata"]
    reading.validate(schemas.Wishes, {"metadata": {"x": "é" * 2044}})


def test_no_fault_repeats_a_value() -> None:
    secret = "whsec_do_not_repeat"
    with pytest.raises(problems.Problem) as caught:
        reading.validate(task_schemas.NewTask, {"model": [secret], "input": secret, "statuses": [secret]})
    assert secret not in repr([caught.value.detail, *caught.value.faults])


def test_members_that_nobody_knows_are_passed_on() -> None:
    body = reading.validate(
        task_schemas.NewTask, {"model": "m", "input": {}, "webhook_url": "x", "priority": 2}
    )
    assert body.foreign() == {"webhook_url": "x", "priority": 2}
    assert reading.misspellings(body.foreign(), task_schemas.OURS) == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [("notifi", "notify"), ("Notify", "notify"), ("status", "statuses"), ("meta_data", "metadata")],
)
def test_misspellings_of_ours_are_found(given: str, meant: str) -> None:
    [fault] = reading.misspellings([given], task_schemas.OURS)
    assert meant in fault.detail
    assert fault.pointer == f"/{given}"


def test_very_many_unknown_members_are_refused_without_naming_each() -> None:
    many = {f"notify{n}": 1 for n in range(20_000)}
    assert len(faults_of(schemas.Wishes, many)) == problems.FAULTS_MAX
    [fault] = reading.misspellings(many, task_schemas.OURS)
    assert "more than 64" in fault.detail
