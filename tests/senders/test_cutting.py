"""Messages fit into their channels, links stay whole, and nobody is called who was not meant."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.senders import cutting

LINK = "https://cdn.example/outputs/4f1c2d.mp4?sig=abc"


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=600), st.integers(0, 80), st.integers(4, 300), st.booleans())
def test_what_is_fitted_fits(title: str, text: str, title_max: int, text_max: int, shared: bool) -> None:
    limits = cutting.Limits(title=title_max, text=text_max, shared=shared)
    head, body = cutting.fit(title, text, limits)
    assert body.strip()
    assert cutting.utf16(head) <= (title_max or text_max)
    if shared or not title_max:
        assert cutting.utf16(body) <= max(1, text_max - cutting.utf16(head))
    else:
        assert cutting.utf16(body) <= text_max


@settings(deadline=None)
@given(st.text(max_size=500), st.integers(3, 200))
def test_bytes_are_counted_where_they_count(text: str, limit: int) -> None:
    assert cutting.utf8(cutting.cut(text, limit, cutting.utf8)) <= limit


def test_what_fits_is_not_touched() -> None:
    limits = cutting.Limits(title=250, text=2000)
    assert cutting.fit("done", "line one\nline two", limits) == ("done", "line one\nline two")


@settings(deadline=None)
@given(st.integers(10, 120))
def test_a_link_is_kept_whole_or_left_out(limit: int) -> None:
    text = f"Output: {LINK}\nTook 41 s\nPrompt: a long walk by the sea"
    shown = cutting.cut(text, limit)
    assert LINK in shown or "://" not in shown
    assert shown.startswith("Output:")
    assert shown == text or shown.endswith("…")


def test_the_first_lines_stay() -> None:
    shown = cutting.cut(f"Output: {LINK}\n" + "word " * 1000, 100)
    assert shown.startswith(f"Output: {LINK}\nword")
    assert shown.endswith(" word…")


def test_a_message_without_text_shows_its_title() -> None:
    assert cutting.fit("done", " \n", cutting.Limits(title=250, text=100)) == ("done", "done")
    assert cutting.fit("", "", cutting.Limits(title=250, text=100))[1] == "…"


@pytest.mark.parametrize(
    "text",
    ["@everyone", "hi @here!", "x@everyone", "<@123456>", "<@&1>", "<#C1>", "<!channel>", "ask @bob", "@All"],
)
def test_mentions_are_broken(text: str) -> None:
    quiet = cutting.silence(text)
    assert quiet.replace("\u200b", "") == text
    for ringing in ("@everyone", "@here", "<@", "<#", "<!", "@bob", "@All"):
        assert ringing not in quiet


@pytest.mark.parametrize(
    "text", ["me@example.com", LINK, "https://x.example/@bob/1?a=@c", "a < b, 5 @ 3", "<b>"]
)
def test_other_text_is_left_alone(text: str) -> None:
    assert cutting.silence(text) == text
