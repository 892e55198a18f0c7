"""Reading foreign JSON: what is found where, and that nothing breaks it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain import model
from relay.upstreams import cursors, decoding, events


def read(value: Any) -> model.Event:
    """One event as it comes over the wire."""
    return events.entries([events.Item(decoding.decode(json.dumps(value)))])[0].event


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"status": "queued"}, "queued"),
        ({"status": "SUCCEEDED"}, "succeeded"),
        ({"status": "canceled"}, "cancelled"),
        ({"new_status": "failed", "old_status": "processing"}, "failed"),
        ({"type": "status_changed", "from": "queued", "to": "processing"}, "processing"),
        ({"state": "processing"}, "processing"),
        ({"data": {"status": "failed"}}, "failed"),
        ({"snapshot": {"task": {"status": "failed"}}}, "failed"),
        ({"type": "task.succeeded"}, "succeeded"),
        ({"event": "failed", "data": {"error": "x"}}, "failed"),
        ({"type": "task.progress"}, None),
        ({"to": "me@example.com"}, None),
        ({"status": None}, None),
        ({}, None),
    ],
)
def test_where_a_status_is_found(value: Any, status: str | None) -> None:
    snapshot = read(value).snapshot
    assert snapshot.status == status
    assert not snapshot.unknown_status


@pytest.mark.parametrize("word", ["completed", "success", "ready", "2", "läuft"])
def test_an_unknown_status_is_kept_and_never_guessed(word: str) -> None:
    snapshot = read({"status": word}).snapshot
    assert snapshot.status is None
    assert snapshot.raw_status == word
    assert snapshot.unknown_status


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"error": "too dark"}, "too dark"),
        ({"error": {"code": 7, "message": "too dark"}}, {"code": 7, "message": "too dark"}),
        ({"error": None, "error_message": "too dark"}, "too dark"),
        ({"failure_reason": "moderated"}, "moderated"),
        ({"data": {"error": "inner"}}, "inner"),
        ({"error": ""}, None),
        ({"error": {}}, None),
        ({"error": False}, None),
        ({"error_code": 0}, None),
        ({"error_code": 1301}, 1301),
    ],
)
def test_where_an_error_is_found(value: Any, error: Any) -> None:
    assert read(value).snapshot.error == error


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.3294", "0.3294"),
        ("0.10", "0.10"),
        ("1e-5", "0.00001"),
        ('"0.12345"', "0.12345"),
        ("0", "0"),
        ("12", "12"),
        ("0.1234567890123456", "0.1234567890123456"),
        ("1000000000", "1000000000"),
        ("1000000000.01", None),
        ("-0.1", None),
        ("1e400", None),
        ("1e99", None),
        ("1e-99", None),
        ("NaN", None),
        ("Infinity", None),
        ('"NaN"', None),
        ('"$0.33"', None),
        ('"1_000"', None),
        ('"٣"', None),
        ("true", None),
        ("null", None),
        ("[1]", None),
        ("9" * 5000, None),
        ("0." + "1" * 5000, None),
    ],
)
def test_money(text: str, amount: str | None) -> None:
    body = decoding.decode('{"task_id": "t", "cost_actual": ' + text + "}")
    found = events.snapshot(body).cost_actual
    assert found == (None if amount is None else Decimal(amount))
    if amount is not None:
        assert format(found, "f") == amount


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_750_000_000, 1_750_000_000.0),
        (1_750_000_000.25, 1_750_000_000.25),
        (1_750_000_000_250, 1_750_000_000.25),
        (1_750_000_000_250_000, 1_750_000_000.25),
        ("1750000000", 1_750_000_000.0),
        ("2025-06-15T15:06:40Z", 1_750_000_000.0),
        ("2025-06-15T17:06:40.250+02:00", 1_750_000_000.25),
        ("2025-06-15 15:06:40", 1_750_000_000.0),
        (0, None),
        (-1, None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:00", None),
        (True, None),
        (None, None),
        ([], None),
        (10**40, None),
    ],
)
def test_timestamps(value: Any, seconds: float | None) -> None:
    assert read({"timestamp": value}).timestamp == seconds


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('"a\\u0000b\\ud800c"', "a\ufffdb\ufffdc"),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"a\\u0000": 1}', {"a\ufffd": 1}),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1e400", None),
        ("NaN", None),
        ("-Infinity", None),
        ("0.5", 0.5),
        ("1.0", 1.0),
        ("true", True),
    ],
)
def test_what_is_changed_on_the_way_in(text: str, clean: Any) -> None:
    found = decoding.clean(decoding.decode(text))
    assert found == clean
    assert type(found) is type(clean)


def test_members_of_an_event_without_meaning_are_kept_as_data() -> None:
    event = read({"id": 7, "type": "progress", "percent": 40, "deep": {"a": [1, 2.5]}})
    assert event.id == "7"
    assert event.type == "progress"
    assert event.data == {"id": 7, "type": "progress", "percent": 40, "deep": {"a": [1, 2.5]}}


def test_a_key_depends_on_content_and_not_on_its_spelling() -> None:
    first, second = (
        events.entries([events.Item(decoding.decode(text))])[0].event.key
        for text in ('{"id": "e", "a": 1.50, "b": 2}', '{"b":2,"a":1.5,"id":"e"}')
    )
    assert first == second


NAMES = [
    *("id", "type", "event", "status", "to", "data", "task", "events", "items", "output", "error"),
    *("cost_actual", "timestamp", "next_cursor", "task_id", "snapshot", "request_id", "model"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["failed", "t1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=20,
)


def storable(value: object) -> bool:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    return "\x00" not in text and "\\u0000" not in text


@given(JSON)
def test_any_json_gives_an_event_that_can_be_stored(value: Any) -> None:
    for form in (value, decoding.decode(json.dumps(value))):
        (entry,) = events.entries([events.Item(form, name="x", id="7")])
        event = entry.event
        assert storable([event.key, event.type, event.id, event.data, event.timestamp])
        snapshot = event.snapshot
        assert storable([snapshot.raw_status, snapshot.request_id, snapshot.output, snapshot.error])
        for amount in (snapshot.cost_estimate, snapshot.cost_actual):
            assert amount is None or 0 <= amount <= decoding.MONEY_MAX
        assert cursors.resume(None, [entry]) == 0


@given(JSON)
def test_any_body_is_read_or_refused(value: Any) -> None:
    try:
        listing = events.read_body(decoding.decode(json.dumps(value)))
    except decoding.Unreadable:
        return
    found = events.entries(listing.items)
    if listing.body is not None:
        events.meaning(listing.body)
        events.snapshot(listing.body)
    if found:
        cursor = cursors.advance(None, listing, found, len(found))
        assert cursors.parse(str(cursor)) == cursor
        assert cursors.resume(cursor, found) == len(found)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        value = decoding.decode(body)
    except decoding.Unreadable:
        return
    assert storable(decoding.clean(value))


@given(st.text())
def test_any_text_is_a_cursor_or_none(text: str) -> None:
    cursor = cursors.parse(text)
    assert cursor is None or str(cursor) == text
    cursors.parse_validator(text, cursor=text, route="E")
