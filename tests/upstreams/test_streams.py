"""The stream parsers: right on the standard's traps, and the same however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.upstreams import sse

STREAMS: dict[str, tuple[bytes, list[tuple[str, str, str]], str]] = {
    "plain": (b"data: a\n\n", [("message", "a", "")], ""),
    "crlf": (
        b"id: 1\r\ndata: a\r\n\r\nid: 2\r\ndata: b\r\n\r\n",
        [("message", "a", "1"), ("message", "b", "2")],
        "2",
    ),
    "cr": (b"data: a\r\rdata: b\r\r", [("message", "a", ""), ("message", "b", "")], ""),
    "mixed": (b"data: a\r\n\ndata: b\n\r\n", [("message", "a", ""), ("message", "b", "")], ""),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")], ""),
    "one space": (b"data:  a\ndata:b\n\n", [("message", " a\nb", "")], ""),
    "no colon": (b"data\n\n", [("message", "", "")], ""),
    "name": (b"event: end\ndata: 1\n\ndata: 2\n\n", [("end", "1", ""), ("message", "2", "")], ""),
    "name without data": (b"event: end\n\ndata: 2\n\n", [("message", "2", "")], ""),
    "id without data": (b"id: 7\n\n", [], "7"),
    "id stays": (b"id: 7\ndata: a\n\ndata: b\n\n", [("message", "a", "7"), ("message", "b", "7")], "7"),
    "id taken back": (b"id: 7\n\nid\ndata: a\n\n", [("message", "a", "")], ""),
    "id with nul": (b"id: 7\n\nid: 8\x009\ndata: a\n\n", [("message", "a", "7")], "7"),
    "unfinished": (b"id: 1\ndata: a\n\nid: 2\ndata: b\n", [("message", "a", "1")], "1"),
    "comment": (b": hi\n\n:\ndata: a\n\n", [("message", "a", "")], ""),
    "unknown field": (b"foo: x\ndata: a\n\n", [("message", "a", "")], ""),
    "not utf-8": (b"data: \xff\n\n", [("message", "\ufffd", "")], ""),
    "not line ends": (
        "data: a\u2028b\u0085c\x0bd\n\n".encode(),
        [("message", "a\u2028b\u0085c\x0bd", "")],
        "",
    ),
}


def parse(chunks: list[bytes]) -> tuple[list[tuple[str, str, str]], str]:
    parser = sse.SseParser(event_max=10_000)
    events = [(event.name, event.data, event.id) for chunk in chunks for event in parser.feed(chunk)]
    return events, parser.last_id


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def feed_for_ever(parser: sse.SseParser | sse.LineParser, chunk: bytes) -> None:
    for _ in range(1_000):
        parser.feed(chunk)


@pytest.mark.parametrize(("data", "events", "last_id"), STREAMS.values(), ids=STREAMS.keys())
def test_streams_of_the_standard(data: bytes, events: list[tuple[str, str, str]], last_id: str) -> None:
    assert parse([data]) == (events, last_id)
    assert parse([bytes([byte]) for byte in data]) == (events, last_id)


PIECE = st.sampled_from(b"data event id retry : \0 \xef\xbb\xbf \xe4 9 \r \n \r\n \xe2\x82\xac".split(b" "))
PIECES = st.lists(PIECE | st.just(b" "), max_size=60)


@given(PIECES, st.lists(st.integers(min_value=0), max_size=30))
def test_any_chunking_gives_the_same_events(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    assert parse(cut(data, places)) == parse([data])


def test_an_event_is_given_as_soon_as_its_blank_line_came() -> None:
    parser = sse.SseParser(event_max=100)
    assert parser.feed(b"data: a\r\r")[0].data == "a"
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: b\r\n\r")[0].data == "b"


@pytest.mark.parametrize(
    ("text", "retry"), [(b"1500", 1500), (b"-1", None), (b"1s", None), ("٣".encode(), None)]
)
def test_retry_is_digits_only(text: bytes, retry: int | None) -> None:
    parser = sse.SseParser(event_max=100)
    parser.feed(b"retry: " + text + b"\n\n")
    assert parser.retry_ms == retry


@pytest.mark.parametrize("chunk", [b"data: aaaaaaaaa", b"data: aaa\n", b"foo\n"])
def test_an_event_without_end_is_refused(chunk: bytes) -> None:
    parser = sse.SseParser(event_max=1_000)
    with pytest.raises(sse.EventTooLarge):
        feed_for_ever(parser, chunk)


def test_comments_may_go_on_for_ever() -> None:
    parser = sse.SseParser(event_max=1_000)
    for _ in range(1_000):
        assert parser.feed(b": still here\n") == []
    assert parser.feed(b"data: a\n\n")[0].data == "a"


@given(st.lists(st.binary(max_size=8)), st.lists(st.integers(min_value=0), max_size=20))
def test_lines_are_the_same_however_cut(lines: list[bytes], places: list[int]) -> None:
    data = b"\n".join(lines)

    def parse_lines(chunks: list[bytes]) -> list[bytes]:
        parser = sse.LineParser(event_max=10_000)
        return [line for chunk in chunks for line in parser.feed(chunk)] + parser.close()

    expected = [line for line in data.split(b"\n") if line.strip()]
    assert parse_lines(cut(data, places)) == expected


def test_a_line_without_end_is_refused() -> None:
    parser = sse.LineParser(event_max=1_000)
    with pytest.raises(sse.EventTooLarge):
        feed_for_ever(parser, b"aaaa")
