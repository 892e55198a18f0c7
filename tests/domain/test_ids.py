"""Ids: what may be one, and that derived ones stay what they are for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import ids
from tests.domain import making


def test_ids_derived_by_earlier_versions_are_derived_again() -> None:
    """Receivers remember webhook ids. To change a value here is to tell them everything twice."""
    assert (
        ids.delivery_id("mindvideo", "task_demo_model", "succeeded", "renders")
        == "msg_ws34omkjjjpee5wtimaks5qg"
    )
    assert ids.derive("msg", "tsk_a", "succeeded", "renders") == "msg_hajz7yg4eeub3ywqrfbi775w"
    assert ids.derive("evt", "tsk_a", "1#abc") == "evt_bzs33ntvzlioo3ijuzh2mfqt"
    assert ids.derive("ntf", "ü") == "ntf_mb2hjsshlklsjvzwbk5hdjln"


def test_a_made_id_is_its_randomness_in_base32() -> None:
    assert ids.make("tsk", bytes(range(15))) == "tsk_aaaqeayeaudaocajbifqydio"
    assert ids.make("tsk", bytes(15)) == "tsk_" + "a" * 24


parts = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1)


@making.steady
@given(parts, parts)
def test_other_parts_give_another_id(one: list[str], other: list[str]) -> None:
    assert (ids.derive("msg", *one) == ids.derive("msg", *other)) == (one == other)
    assert re.fullmatch("msg_[a-z2-7]{24}", ids.derive("msg", *one))


def test_a_delivery_s_id_depends_on_each_of_its_four_names() -> None:
    names = ("mindvideo", "task", "failed", "renders")
    others = {ids.delivery_id(*(*names[:i], names[i] + "x", *names[i + 1 :])) for i in range(4)}
    assert len(others | {ids.delivery_id(*names)}) == 5


@pytest.mark.parametrize(
    "text", ["a", "task_demo_model", "A-Z.a~z:0_9", "...", ".a", "~", ":", "-", "x" * 200, "mindvideo:task"]
)
def test_what_may_be_a_task_id(text: str) -> None:
    assert ids.is_task_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "x" * 201,
        "a/b",
        "../admin",
        "a%2Fb",
        "a b",
        " a",
        "a\n",
        "a\r\nHost: x",
        "a?b",
        "a#b",
        "a\\b",
        "a@b",
        "a\0",
        "ä",
        "а",  # Cyrillic
        "１",
        "a;b",
        "{a}",
        "\ud800",
    ],
)
def test_what_may_not_reach_an_upstream_s_url(text: str) -> None:
    assert not ids.is_task_id(text)


@pytest.mark.parametrize("text", ["a", "renders", "a1_b2", "x" * 63])
def test_what_may_name_an_upstream_or_a_destination(text: str) -> None:
    assert ids.is_name(text)


@pytest.mark.parametrize("text", ["", "A", "1a", "_a", "a-b", "a:b", "a b", "a\n", "é", "x" * 64])
def test_what_may_not_name_one(text: str) -> None:
    assert not ids.is_name(text)


@pytest.mark.parametrize(
    ("reference", "upstream", "task_id"),
    [
        ("task_a", None, "task_a"),
        ("mindvideo:task_a", "mindvideo", "task_a"),
        ("mindvideo:a:b", "mindvideo", "a:b"),
        ("other:a", "other", "a"),
        ("elsewhere:a", None, "elsewhere:a"),
        ("MINDVIDEO:a", None, "MINDVIDEO:a"),
        ("mindvideo", None, "mindvideo"),
        ("mindvideo:", "mindvideo", ""),
        (":a", None, ":a"),
        ("mindvideo:mindvideo:a", "mindvideo", "mindvideo:a"),
    ],
)
def test_a_reference_names_an_upstream_only_where_there_is_one(
    reference: str, upstream: str | None, task_id: str
) -> None:
    assert ids.split_reference(reference, frozenset({"mindvideo", "other"})) == (upstream, task_id)
