"""Headers of a user's own: what is taken, what is refused, and that no value is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.senders import headers

SECRET = "s3cretValueOfAHeader"


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        *(({name: SECRET}, f"{name} is set by relay itself") for name in sorted(headers.OURS)),
        ({"Host": SECRET}, "Host is set by relay itself"),
        ({"CONTENT-LENGTH": SECRET}, "CONTENT-LENGTH is set by relay itself"),
        ({"Proxy-Authorization": SECRET}, "Proxy-Authorization is set by relay itself"),
        ({"webhook-id": SECRET}, "webhook-id is set by relay itself"),
        ({"Webhook-Anything": SECRET}, "Webhook-Anything is set by relay itself"),
        ({"X-Key": f"{SECRET}\r\nX-More: 1"}, "the value of X-Key holds line breaks"),
        ({"X-Key": f"{SECRET}\n"}, "the value of X-Key holds line breaks"),
        ({"X-Key": f"{SECRET}\0"}, "the value of X-Key"),
        ({"X-Key": f"{SECRET}\x7f"}, "the value of X-Key"),
        ({"X-Key": f"{SECRET}ж"}, "outside ASCII"),
        ({"": SECRET}, "one of them is not the name of a header"),
        ({f"Authorization: {SECRET}": ""}, "begins with 'Authorization' is not the name"),
        ({"X Key": SECRET}, "begins with 'X' is not the name"),
        ({"X-Key\r\n": SECRET}, "begins with 'X-Key' is not the name"),
        ({"Schlüssel": SECRET}, "begins with 'Schl' is not the name"),
        ({"X-Key": SECRET, "x-key": SECRET}, "x-key is given twice"),
        ({"X-Key": SECRET * 300}, "X-Key is longer than 4096"),
        ({f"X-{n}": SECRET for n in range(21)}, "at most 20 headers"),
    ],
)
def test_a_bad_header_is_one_clear_line_that_names_it(given_: dict[str, str], said: str) -> None:
    with pytest.raises(headers.BadHeader) as caught:
        headers.parse(given_)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_what_is_taken_is_sent_as_it_stands() -> None:
    given_ = {"Authorization": f" Bearer {SECRET} ", "X-Empty": "", "x-tab": "a\tb"}
    assert headers.parse(given_) == {"Authorization": f"Bearer {SECRET}", "X-Empty": "", "x-tab": "a\tb"}
    assert headers.parse({f"X-{n}": "v" for n in range(20)})


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=5))
def test_nothing_that_is_taken_breaks_a_request(given_: dict[str, str]) -> None:
    try:
        taken = headers.parse(given_)
    except headers.BadHeader:
        return
    for name, value in taken.items():
        assert name.isascii()
        assert not set(f"{name}{value}") & set("\r\n\0")


def test_what_must_not_be_quoted_is_known() -> None:
    hidden = headers.secrets_in({"Authorization": f"Bearer {SECRET}", "Cookie": "a=1; b=abcdefgh", "X": "on"})
    assert {SECRET, f"Bearer {SECRET}", "abcdefgh"} <= set(hidden)
    assert "on" not in hidden
