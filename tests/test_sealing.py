"""Secrets at rest: which key seals, which open, where a key is made, and what a wrong one says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import fernet

from relay import sealing
from relay.domain import errors

VALUE = {"url": "https://example.com/hooks/secret", "secrets": [{"secret": "whsec_x", "until": None}]}
OLD, NEW = "an old key of some length", "a new key of some length"


def test_what_is_sealed_shows_nothing_and_opens_again() -> None:
    sealer = sealing.Sealer([OLD])
    token = sealer.seal(VALUE)
    assert "example" not in token
    assert sealer.open(token) == VALUE
    assert sealer.seal(VALUE) != token
    assert OLD not in repr(sealer)


def test_the_newest_key_seals_and_every_key_opens() -> None:
    old = sealing.Sealer([OLD]).seal(VALUE)
    both = sealing.Sealer([NEW, OLD])
    assert both.open(old) == VALUE
    assert not both.current(old)
    new = both.seal(VALUE)
    assert both.current(new)
    assert sealing.Sealer([NEW]).open(new) == VALUE


@pytest.mark.parametrize("token", ["", "x", "gAAAAA", "é"])
def test_what_was_never_sealed_does_not_open(token: str) -> None:
    with pytest.raises(errors.SecretUnreadable, match=r"^security.secret_key: none of these keys opens"):
        sealing.Sealer([OLD]).open(token)


def test_a_wrong_key_is_told_in_a_line_without_any_key() -> None:
    token = sealing.Sealer([OLD]).seal(VALUE)
    with pytest.raises(errors.SecretUnreadable) as caught:
        sealing.Sealer([NEW]).open(token)
    assert NEW not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fernet_key_is_used_as_it_is() -> None:
    key = fernet.Fernet.generate_key().decode()
    token = sealing.Sealer([key]).seal(VALUE)
    assert fernet.Fernet(key).decrypt(token).startswith(b'{"url"')


def test_without_any_key_it_says_where_it_may_have_been(tmp_path: Path) -> None:
    token, file = sealing.Sealer(["one of the configuration"]).seal(VALUE), tmp_path / "relay.db.key"
    with pytest.raises(errors.SecretUnreadable) as refused:
        sealing.Sealer(key_file=file).open(token)
    assert str(refused.value) == (
        "security.secret_key: set it to the key that the secrets in the database were encrypted with, "
        f"or restore {file} if relay made it: it is missing"
    )


def test_a_key_is_made_for_the_first_secret_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "relay.db.key"
    sealer = sealing.Sealer(key_file=file)
    with pytest.raises(errors.SecretUnreadable, match="is missing"):
        sealer.open("gAAAAA")
    assert not file.exists()
    token = sealer.seal(VALUE)
    assert file.stat().st_mode & 0o777 == 0o600
    made = file.read_text()
    assert sealing.Sealer(key_file=file).open(token) == VALUE
    sealing.make_key(file)
    assert file.read_text() == made


def test_the_file_goes_on_opening_when_keys_are_configured(tmp_path: Path) -> None:
    file = tmp_path / "relay.db.key"
    token = sealing.Sealer(key_file=file).seal(VALUE)
    configured = sealing.Sealer([NEW], key_file=file)
    assert configured.open(token) == VALUE
    assert not configured.current(token)
    assert configured.current(configured.seal(VALUE))


def test_a_lost_wrong_or_broken_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "relay.db.key"
    token = sealing.Sealer(key_file=file).seal(VALUE)
    file.write_text("another key\n")
    with pytest.raises(errors.SecretUnreadable, match=r"relay\.db\.key does not open"):
        sealing.Sealer(key_file=file).open(token)
    file.write_text("")
    with pytest.raises(errors.SecretUnreadable, match="is empty"):
        sealing.Sealer(key_file=file).open(token)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(errors.SecretUnreadable, match="cannot be read: it is no text"):
        sealing.Sealer(key_file=file).open(token)
    file.unlink()
    with pytest.raises(errors.SecretUnreadable, match="is missing"):
        sealing.Sealer(key_file=file).open(token)


def test_a_key_that_cannot_be_kept_seals_nothing(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreUnavailable, match="cannot make the key file"):
        sealing.Sealer(key_file=tmp_path / "missing" / "relay.db.key").seal(VALUE)


def test_who_seals_nothing_imports_nothing() -> None:
    script = (
        "from relay import sealing; import sys; sealing.Sealer(['a key of some length']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "cryptography" not in done.stdout
