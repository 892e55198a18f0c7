"""Signatures of webhooks: Standard Webhooks 1.0.0, schemes ``v1`` and ``v1a``, over the exact bytes.

Signed is ``id.timestamp.body``; the header is a space-separated list of ``v1,<base64>`` (HMAC), one
entry per secret, so that a receiver verifies with the old or the new secret while one is rotated, and
``v1a,<base64>`` (ed25519), for receivers that are to verify without being able to sign.
Pure functions: no clock, no I/O. Nothing here ever shows a secret.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets start with
SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64

PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"
SEED_BYTES: Final = 32
"""An ed25519 private key; written with its public key behind it, it has twice as many."""

TOLERANCE: Final = 300.0
"""Seconds that a timestamp may be off, either way (the reference libraries' figure)."""

ENTRIES_MAX: Final = 16
"""How many entries of a signature header are looked at: a hostile one costs bounded time."""


class BadSecret(ValueError):
    """A signing secret cannot be used. The text says why and never holds the secret."""


class BadSignature(ValueError):
    """A webhook is not what it claims to be. The text says why."""


def parse_secret(text: str) -> bytes:
    """The HMAC key of ``whsec_<base64>``: 24–64 bytes. Raises ``BadSecret``."""
    if not text.startswith(SECRET_PREFIX):
        raise BadSecret(f"a signing secret starts with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(text[len(SECRET_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret(f"a signing secret is standard base64 after {SECRET_PREFIX}") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise BadSecret(
            f"a signing secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one {len(key)}"
        )
    return key


def format_secret(key: bytes) -> str:
    """``whsec_<base64>`` of a key."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def sign(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``; ``keys`` newest first, ``timestamp`` in epoch seconds."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_digest(key, signed)}" for key in keys)


def parse_private_key(text: str) -> ed25519.Ed25519PrivateKey:
    """The ed25519 key of ``whsk_<base64>``: a seed of 32 bytes, or seed and public key.

    Raises ``BadSecret``.
    """
    # Imported by those who have such a key: it costs a process 7 MB.
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if not text.startswith(PRIVATE_PREFIX):
        raise BadSecret(f"a signing key starts with {PRIVATE_PREFIX}")
    try:
        raw = base64.b64decode(text[len(PRIVATE_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret(f"a signing key is standard base64 after {PRIVATE_PREFIX}") from None
    if len(raw) not in (SEED_BYTES, 2 * SEED_BYTES):
        raise BadSecret(f"a signing key has {SEED_BYTES} or {2 * SEED_BYTES} bytes, this one {len(raw)}")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES])
    if raw[SEED_BYTES:] not in (b"", key.public_key().public_bytes_raw()):
        raise BadSecret("the two halves of a signing key belong together, these do not")
    return key


def format_private_key(seed: bytes) -> str:
    """``whsk_<base64>`` of 32 random bytes, in the long form: seed and public key."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return PRIVATE_PREFIX + base64.b64encode(seed + public).decode("ascii")


def public_key(text: str) -> str:
    """``whpk_<base64>``, for receivers, of ``whsk_<base64>``. Raises ``BadSecret``."""
    raw = parse_private_key(text).public_key().public_bytes_raw()
    return PUBLIC_PREFIX + base64.b64encode(raw).decode("ascii")


def sign_asymmetric(key: ed25519.Ed25519PrivateKey, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The entry ``v1a,<base64>`` of ``webhook-signature``; ``timestamp`` in epoch seconds."""
    signature = key.sign(f"{webhook_id}.{timestamp}.".encode() + body)
    return "v1a," + base64.b64encode(signature).decode("ascii")


def verify(
    keys: Sequence[bytes],
    *,
    webhook_id: str | None,
    timestamp: str | None,
    signature: str | None,
    body: bytes,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Check the three headers of a webhook that was received. Raises ``BadSignature``.

    Every entry is compared with every key in constant time. ``now`` is in epoch seconds.
    """
    if not webhook_id or not timestamp or not signature:
        raise BadSignature("webhook-id, webhook-timestamp and webhook-signature are needed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise BadSignature("webhook-timestamp is not a whole number of seconds")
    if abs(now - int(timestamp)) > tolerance:
        raise BadSignature(f"webhook-timestamp is more than {tolerance:g} s away from this clock")
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    expected = [f"v1,{_digest(key, signed)}".encode() for key in keys]
    entries = signature.encode("utf-8", "replace").split(maxsplit=ENTRIES_MAX)[:ENTRIES_MAX]
    matches = [hmac.compare_digest(entry, known) for entry in entries for known in expected]
    if not any(matches):
        raise BadSignature("no signature matches")


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
