"""Secrets at rest: what the API was given is encrypted before the store sees it.

The keys are ``[security] secret_key``, newest first: the first one seals, all of them open. Without any,
a key is made beside the database when the first secret must be sealed (``relay.db.key``, for its owner
alone); it goes on opening what it sealed when keys are configured later. Whoever has the database but no
key learns names, options and instants, no URL and no secret.

Knows neither the store nor what is sealed. cryptography is imported by the first who seals or opens:
it costs 7 MB that a daemon without such secrets need not have.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay.domain import errors

if TYPE_CHECKING:
    from cryptography import fernet

KEY_BYTES: Final = 32
KEY_FILE_MAX: Final = 4096
"""Bytes of a key file that are read; a larger file is certainly no key."""

CANARY: Final = "relay"
"""What is sealed to find out later whether the keys are still the right ones."""


class Sealer:
    """Seals and opens. Its ``repr`` shows no key."""

    def __init__(self, keys: Sequence[str] = (), *, key_file: Path | None = None) -> None:
        """``keys`` are texts, newest first; ``key_file`` may be there, and is made when it must be."""
        self._keys = tuple(keys)
        self._key_file = key_file
        self._opened: tuple[fernet.Fernet, ...] = ()

    def seal(self, value: object) -> str:
        """Encrypt a JSON value under the newest key.

        Raises ``errors.StoreUnavailable`` when a key must be made and cannot be kept.
        """
        if not self._fernets() and self._key_file is not None:
            make_key(self._key_file)
        return self._newest().encrypt(json.dumps(value).encode()).decode("ascii")

    def open(self, token: str) -> object:
        """What was sealed. Raises ``errors.SecretUnreadable`` when no key opens it."""
        from cryptography import fernet

        for key in self._fernets():
            try:
                return json.loads(key.decrypt(token))
            except (fernet.InvalidToken, ValueError):
                continue
        raise errors.SecretUnreadable(self._what_to_do())

    def current(self, token: str) -> bool:
        """Whether the newest key sealed it."""
        from cryptography import fernet

        try:
            self._newest().decrypt(token)
        except fernet.InvalidToken:
            return False
        return True

    def _newest(self) -> fernet.Fernet:
        known = self._fernets()
        if not known:
            raise errors.SecretUnreadable(self._what_to_do())
        return known[0]

    def _fernets(self) -> tuple[fernet.Fernet, ...]:
        if not self._opened:
            from cryptography import fernet

            found = [*self._keys]
            if self._key_file is not None and (kept := read_key(self._key_file)) is not None:
                found.append(kept)
            self._opened = tuple(fernet.Fernet(_key(text)) for text in found)
        return self._opened

    def _what_to_do(self) -> str:
        where, file = "security.secret_key", self._key_file
        if self._keys:
            return (
                f"{where}: none of these keys opens the secrets in the database; add the one that they were"
                " encrypted with, at the end of the list"
            )
        if file is None or not file.exists():
            missing = "" if file is None else f", or restore {file} if relay made it: it is missing"
            return f"{where}: set it to the key that the secrets in the database were encrypted with{missing}"
        return (
            f"{where}: the key in {file} does not open the secrets in the database; restore the right file,"
            f" or set {where} to the key that they were encrypted with"
        )


def read_key(file: Path) -> str | None:
    """The key that ``file`` holds, ``None`` where there is no file.

    Raises ``errors.SecretUnreadable`` for one that cannot be read or is empty.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(KEY_FILE_MAX).decode("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise errors.SecretUnreadable(f"the key file {file} cannot be read: {said}") from None
    if not text:
        raise errors.SecretUnreadable(f"the key file {file} is empty; restore it from a backup")
    return text


def make_key(file: Path) -> None:
    """Make a key in ``file``, for its owner alone, and bring it to the disk; one that is there stays.

    Raises ``errors.StoreUnavailable``.
    """
    text = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise errors.StoreUnavailable(f"cannot make the key file {file}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as opened:  # noqa: PTH123 - it is open already
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise errors.StoreUnavailable(f"cannot write the key file {file}: {error.strerror}") from None


def _key(text: str) -> bytes:
    """``text`` as Fernet takes it: it is such a key, or one is derived from it."""
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raw = hashlib.sha256(text.encode("utf-8")).digest()
    return base64.urlsafe_b64encode(raw)
