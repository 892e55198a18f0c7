"""Signatures: the specification's vector, an independent verifier, and every way to be wrong."""

from __future__ import annotations

import base64
import subprocess
import sys
import time

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.senders import signing

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
KEY = signing.parse_secret(SECRET)
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
ASYMMETRIC = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

keys = st.binary(min_size=24, max_size=64)


def check(
    header: str, *, key: bytes = KEY, body: bytes = BODY, webhook_id: str = ID, now: float = TIMESTAMP
) -> None:
    signing.verify(
        [key], webhook_id=webhook_id, timestamp=str(TIMESTAMP), signature=header, body=body, now=now
    )


def test_the_vector_of_the_specification() -> None:
    assert signing.sign([KEY], ID, TIMESTAMP, BODY) == SIGNATURE
    check(SIGNATURE)


@settings(deadline=None)
@given(keys, keys, st.binary(max_size=200), st.from_regex(r"msg_[a-z0-9]{1,30}", fullmatch=True))
def test_both_secrets_verify_during_a_rotation(new: bytes, old: bytes, body: bytes, webhook_id: str) -> None:
    header = signing.sign([new, old], webhook_id, TIMESTAMP, body)
    assert header.split()[0] == signing.sign([new], webhook_id, TIMESTAMP, body)
    check(header, key=new, body=body, webhook_id=webhook_id)
    check(header, key=old, body=body, webhook_id=webhook_id)


@settings(deadline=None)
@given(keys, st.text(max_size=100))
def test_the_reference_library_verifies(key: bytes, text: str) -> None:
    now = int(time.time())
    body = text.encode("utf-8", "replace")
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign([bytes(24), key], ID, now, body),
    }
    standardwebhooks.Webhook(signing.format_secret(key)).verify(body, headers, json_parse=False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1",
        "v1,",
        "v1a," + SIGNATURE[3:],
        "v2," + SIGNATURE[3:],
        SIGNATURE[:-2] + "A=",
        SIGNATURE[3:],
        "é ü",
    ],
)
def test_other_signatures_are_refused(header: str) -> None:
    with pytest.raises(signing.BadSignature):
        check(header)


def test_other_contents_are_refused() -> None:
    for wrong in ({"body": BODY + b" "}, {"webhook_id": "msg_other"}, {"key": bytes(32)}):
        with pytest.raises(signing.BadSignature):
            check(SIGNATURE, **wrong)


def test_any_entry_may_match_but_not_without_end() -> None:
    check("v1a,xxxx v1,AAAA " + SIGNATURE)
    with pytest.raises(signing.BadSignature):
        check("v1,AAAA " * 10_000 + SIGNATURE)


@pytest.mark.parametrize("now", [TIMESTAMP - 301, TIMESTAMP + 301])
def test_an_old_or_future_timestamp_is_refused(now: float) -> None:
    with pytest.raises(signing.BadSignature, match="300 s"):
        check(SIGNATURE, now=now)


@pytest.mark.parametrize("timestamp", [None, "", "soon", "-5", "1e9", "²", "9" * 400])
def test_an_unreadable_timestamp_is_refused(timestamp: str | None) -> None:
    with pytest.raises(signing.BadSignature):
        signing.verify(
            [KEY], webhook_id=ID, timestamp=timestamp, signature=SIGNATURE, body=BODY, now=TIMESTAMP
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with whsec_"),
        ("whsec_not base64!", "standard base64"),
        ("whsec_" + "-_" * 20, "standard base64"),
        ("whsec_" + "QUJD" * 7, "24 to 64 bytes, this one 21"),
        ("whsec_" + "QUJD" * 22, "24 to 64 bytes, this one 66"),
        ("whsec_", "24 to 64 bytes, this one 0"),
    ],
)
def test_a_bad_secret_says_why_and_is_not_shown(text: str, why: str) -> None:
    with pytest.raises(signing.BadSecret, match=why) as caught:
        signing.parse_secret(text)
    assert len(text) <= 6 or text[6:] not in str(caught.value)


def test_the_asymmetric_vector_of_the_specification() -> None:
    key = signing.parse_private_key(PRIVATE)
    assert signing.sign_asymmetric(key, ID, TIMESTAMP, BODY) == ASYMMETRIC
    seed = "whsk_" + base64.b64encode(base64.b64decode(PRIVATE[5:])[:32]).decode()
    assert signing.sign_asymmetric(signing.parse_private_key(seed), ID, TIMESTAMP, BODY) == ASYMMETRIC
    assert signing.public_key(PRIVATE) == signing.public_key(seed)
    assert signing.format_private_key(base64.b64decode(PRIVATE[5:])[:32]) == PRIVATE


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_the_public_key_verifies(seed: bytes, body: bytes) -> None:
    text = signing.format_private_key(seed)
    scheme, _, signature = signing.sign_asymmetric(
        signing.parse_private_key(text), ID, TIMESTAMP, body
    ).partition(",")
    public = signing.public_key(text)
    assert (scheme, public[:5]) == ("v1a", "whpk_")
    verifier = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public[5:]))
    verifier.verify(base64.b64decode(signature), f"{ID}.{TIMESTAMP}.".encode() + body)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SECRET, "starts with whsk_"),
        ("whsk_not base64!", "standard base64"),
        ("whsk_" + "QUJD" * 8, "32 or 64 bytes, this one 24"),
        ("whsk_", "32 or 64 bytes, this one 0"),
        ("whsk_" + base64.b64encode(bytes(64)).decode(), "these do not"),
    ],
)
def test_a_bad_private_key_says_why_and_is_not_shown(text: str, why: str) -> None:
    with pytest.raises(signing.BadSecret, match=why) as caught:
        signing.parse_private_key(text)
    assert len(text) <= 6 or text[6:] not in str(caught.value)


def test_who_has_no_such_key_does_not_pay_for_it() -> None:
    code = "import sys, relay.senders.opening; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@settings(deadline=None)
@given(keys)
def test_secrets_round_trip(key: bytes) -> None:
    assert signing.parse_secret(signing.format_secret(key)) == key
