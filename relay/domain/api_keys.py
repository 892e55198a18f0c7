"""API keys as text: how one is made, recognised and compared. Pure: randomness is an argument.

A key reads ``rk_<24 characters of its id>_<43 characters of secret>``. The id in it is public and
finds the row; only SHA-256 of the whole text is stored, which is enough for 256 random bits. Who may
do what with a key is decided in ``relay/web/auth.py``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from relay.domain import ids

ID_PREFIX: Final = "key"
"""Prefix of a key's id, ``key_…``."""

ADMIN_ID: Final = "key_admin"
"""The id under which ``security.admin_key`` of the configuration acts. It has no row."""

SECRET_BYTES: Final = 32
"""Randomness of the secret part: 256 bits, 43 url-safe base64 characters."""

_TEXT: Final = re.compile(r"rk_([a-z2-7]{24})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A new key. ``text`` is the secret, to be shown once; ``secret_hash`` is what is stored."""

    id: str
    text: str = field(repr=False)
    secret_hash: bytes = field(repr=False)


def mint(randomness: Callable[[int], bytes]) -> Minted:
    """A new key from ``randomness(n)``, which gives ``n`` unpredictable bytes."""
    key_id = ids.make(ID_PREFIX, randomness(ids.RANDOM_BYTES))
    secret = base64.urlsafe_b64encode(randomness(SECRET_BYTES)).decode("ascii").rstrip("=")
    text = f"rk_{key_id.removeprefix(ID_PREFIX + '_')}_{secret}"
    return Minted(id=key_id, text=text, secret_hash=hash_text(text))


def id_of(text: str) -> str | None:
    """The id of the key that ``text`` claims to be, or ``None`` if no key looks like that."""
    match = _TEXT.fullmatch(text)
    return f"{ID_PREFIX}_{match[1]}" if match else None


def hash_text(text: str) -> bytes:
    """What is stored of a key: SHA-256 of its whole text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two hashes are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)
