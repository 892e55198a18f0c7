"""API keys as text."""

from __future__ import annotations

import hashlib
import os
import re

import pytest

from relay.domain import api_keys


def test_a_key_has_the_documented_form() -> None:
    minted = api_keys.mint(os.urandom)
    assert re.fullmatch(r"key_[a-z2-7]{24}", minted.id)
    assert re.fullmatch(r"rk_[a-z2-7]{24}_[A-Za-z0-9_-]{43}", minted.text)
    assert minted.text.split("_")[1] == minted.id.removeprefix("key_")
    assert minted.secret_hash == hashlib.sha256(minted.text.encode()).digest()
    assert api_keys.id_of(minted.text) == minted.id


def test_two_keys_differ_and_only_the_same_hash_is_the_same() -> None:
    one, other = api_keys.mint(os.urandom), api_keys.mint(os.urandom)
    assert one.text != other.text
    assert api_keys.same(one.secret_hash, api_keys.hash_text(one.text))
    assert not api_keys.same(one.secret_hash, other.secret_hash)


def test_the_secret_is_not_in_its_repr() -> None:
    minted = api_keys.mint(os.urandom)
    assert minted.text not in repr(minted)


@pytest.mark.parametrize(
    "text", ["", "rk_", "mv_live_xxx", "rk_" + "a" * 24, "rk_" + "A" * 24 + "_" + "x" * 43, "\udcff"]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert api_keys.id_of(text) is None
    assert len(api_keys.hash_text(text)) == 32
