"""Cursors give back exactly what was put in, and nothing else is taken for one."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import ids
from relay.web import cursors, problems

TASK = ids.make("tsk", b"\x01" * 15)
OTHER = ids.make("tsk", b"\x02" * 15)


@given(st.floats(0, 4e9), st.binary(min_size=15, max_size=15))
def test_a_row_comes_back_exactly(created_at: float, randomness: bytes) -> None:
    row_id = ids.make("tsk", randomness)
    assert cursors.row(cursors.of_row(created_at, row_id), prefix="tsk") == (created_at, row_id)


@given(st.integers(0, 2**53))
def test_an_event_comes_back_exactly(seq: int) -> None:
    assert cursors.event(cursors.of_event(TASK, seq), task=TASK) == seq


def test_no_cursor_is_the_beginning() -> None:
    assert cursors.row(None, prefix="tsk") is None
    assert cursors.event(None, task=TASK) == 0


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!!!!",
        "é",
        encoded("1.0"),
        encoded("nan," + TASK),
        encoded("inf," + TASK),
        encoded("1.0,msg_aaaa"),
        encoded("1.0,tsk_'; DROP TABLE tasks"),
        cursors.of_row(1.0, "msg_aaaa"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(problems.Problem) as caught:
        cursors.row(text, prefix="tsk")
    assert caught.value.status == 422
    assert caught.value.faults[0].parameter == "cursor"


@pytest.mark.parametrize("text", [cursors.of_event(OTHER, 3), encoded(f"-1,{TASK}"), encoded(f"1.5,{TASK}")])
def test_an_event_cursor_of_another_task_is_refused(text: str) -> None:
    with pytest.raises(problems.Problem):
        cursors.event(text, task=TASK)


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(problems.Problem):
        cursors.event(text, task=TASK)
