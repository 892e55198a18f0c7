"""Webhooks beyond the contract: the exact request, its signatures, and what is kept of the answer."""

from __future__ import annotations

import base64
import time

import aiohttp
import pytest
import standardwebhooks
import yarl
from cryptography.hazmat.primitives.asymmetric import ed25519

import relay
from relay.domain import errors, model
from relay.senders import headers, network, signing, webhook
from tests.fakes import receivers
from tests.senders.channels import WEBHOOK_BODY
from tests.senders.conftest import KEY, OLD_KEY, outgoing, sender_to


async def test_the_request_is_exactly_what_was_stored_and_signed(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(receiver.url + "/hooks?a=b#fragment", client)
    assert sender.format is model.Format.WEBHOOK
    assert sender.address == receiver.url
    await sender.send(outgoing(WEBHOOK_BODY))
    [request] = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hooks?a=b", WEBHOOK_BODY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"relay/{relay.__version__}"
    assert request.headers["webhook-id"] == "msg_test"
    assert request.headers["accept-encoding"] == "identity"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert "authorization" not in request.headers
    for key in (KEY, OLD_KEY):
        verifier = standardwebhooks.Webhook(signing.format_secret(key))
        verifier.verify(request.body, request.headers, json_parse=False)


async def test_each_attempt_has_its_own_timestamp_and_the_same_id(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    times = iter([1_000_000.9, 1_000_005.1, 1_000_009.0, 1_000_010.0])
    sender = webhook.WebhookSender(
        "w", url=yarl.URL(receiver.url), keys=[KEY], client=client, now=lambda: next(times)
    )
    receiver.script = [receivers.Answer(status=500)]
    with pytest.raises(errors.SendError):
        await sender.send(outgoing(WEBHOOK_BODY))
    await sender.send(outgoing(WEBHOOK_BODY, attempt=2))
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] == "1000000"
    assert second.headers["webhook-timestamp"] == "1000009"
    assert first.body == second.body


@pytest.mark.parametrize("keys", [[], [KEY], [KEY, OLD_KEY]])
async def test_both_kinds_of_signature_go_together(
    receiver: receivers.Receiver, client: webhook.WebhookClient, keys: list[bytes]
) -> None:
    private = signing.format_private_key(bytes(range(32)))
    sender = webhook.WebhookSender(
        "w",
        url=yarl.URL(receiver.url),
        keys=keys,
        signing_key=signing.parse_private_key(private),
        client=client,
    )
    await sender.send(outgoing(WEBHOOK_BODY))
    [request] = receiver.requests
    *symmetric, asymmetric = request.headers["webhook-signature"].split(" ")
    assert len(symmetric) == len(keys)
    assert all(entry.startswith("v1,") for entry in symmetric)
    for key in keys:
        standardwebhooks.Webhook(signing.format_secret(key)).verify(
            request.body, request.headers, json_parse=False
        )
    scheme, _, signature = asymmetric.partition(",")
    assert scheme == "v1a"
    public = base64.b64decode(signing.public_key(private).removeprefix("whpk_"))
    signed = f"msg_test.{request.headers['webhook-timestamp']}.".encode() + request.body
    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature), signed)


async def test_headers_of_the_users_own_go_along(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    given = headers.parse({"Authorization": "Bearer s3cretToken", "X-Tenant": "acme"})
    sender = webhook.WebhookSender("w", url=yarl.URL(receiver.url), keys=[KEY], headers=given, client=client)
    await sender.send(outgoing(WEBHOOK_BODY))
    [request] = receiver.requests
    assert request.headers["authorization"] == "Bearer s3cretToken"
    assert request.headers["x-tenant"] == "acme"
    assert request.headers["content-type"] == "application/json"
    assert "s3cretToken" not in f"{sender!r} {sender.address} {sender.name}"
    quoted = sender._cleaned(b'{"authorization": "Bearer s3cretToken", "again": "s3cretToken"}')
    assert quoted == '{"authorization": "…", "again": "…"}'


async def test_what_a_private_peer_answers_is_not_kept(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(receiver.url, client)
    receiver.answer = receivers.Answer(status=200, body=b"internal things")
    assert (await sender.send(outgoing(WEBHOOK_BODY))).detail is None
    receiver.answer = receivers.Answer(status=500, body=b"internal things")
    with pytest.raises(errors.SendError) as caught:
        await sender.send(outgoing(WEBHOOK_BODY))
    assert "internal" not in str(caught.value)


def test_what_a_public_peer_answers_is_kept_short_and_clean() -> None:
    sender = webhook.WebhookSender(
        "w",
        url=yarl.URL("https://x.example/hooks/T0psecretToken?key=An0therSecret"),
        keys=[KEY],
        client=None,  # type: ignore[arg-type]
    )
    assert (
        sender._cleaned(b"no route /hooks/T0psecretToken?key=An0therSecret\r\n\x1b[31m!")
        == "no route … [31m!"
    )
    assert sender._cleaned(b"T0psecretToken An0therSecret") == "… …"
    assert sender._cleaned(b"\xff" * 2000) == "\ufffd" * webhook.DETAIL_LENGTH_MAX
    assert sender._cleaned(b" \n ") is None
    assert sender._cleaned(b"said" + b" " * 1000 + b"T0psecretTok", whole=False) == "said"


async def test_which_peers_are_public_is_known() -> None:
    policy = network.AddressPolicy(["127.0.0.0/8", "::1/128"])
    resolver = webhook.JudgingResolver(policy, aiohttp.ThreadedResolver())
    assert resolver.private("10.1.2.3")
    assert not resolver.private("8.8.8.8")
    await resolver.resolve("localhost", 80)
    assert resolver.private("localhost")


async def test_credentials_in_the_url_are_sent_and_not_shown(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(f"http://me:hunter22@127.0.0.1:{receiver.port}/", client)
    await sender.send(outgoing(WEBHOOK_BODY))
    assert receiver.requests[0].headers["authorization"].startswith("Basic ")
    assert sender.address == receiver.url


async def test_the_environment_is_not_obeyed(
    receiver: receivers.Receiver, client: webhook.WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    await sender_to(receiver.url, client).send(outgoing(WEBHOOK_BODY))
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "http:///path",
        "ftp://x.example",
        "https://x.example:99999/",
        "https://a b/",
        "https://[::1/",
        "https://127%2e0%2e0%2e1/",
        "https://hooks.example\\@127.0.0.1/",
        "https://1.2.3.256/",
        "x",
    ],
)
def test_a_bad_url_is_one_clear_line(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL [^\n]+$"):
        webhook.parse_url(url)
