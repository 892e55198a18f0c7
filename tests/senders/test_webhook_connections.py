"""Webhooks beyond the contract: addresses and names, connections, TLS and the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from relay.domain import errors
from relay.senders import dialling as ways
from relay.senders import network, webhook
from tests.fakes import dialling, receivers
from tests.fakes import names as fakes
from tests.senders.channels import WEBHOOK_BODY
from tests.senders.conftest import LIMIT, PATIENCE, outgoing, sender_to


@pytest.fixture
async def shut_client() -> AsyncIterator[webhook.WebhookClient]:
    """A session for which nothing private is opened."""
    made = webhook.WebhookClient(network.AddressPolicy())
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"]
)
async def test_a_private_address_is_refused_and_never_dialled(
    receiver: receivers.Receiver, shut_client: webhook.WebhookClient, host: str
) -> None:
    sender = sender_to(f"http://{host}:{receiver.port}/hooks", shut_client)
    with pytest.raises(errors.AddressRefused) as caught:
        await sender.send(outgoing(WEBHOOK_BODY))
    assert caught.value.rule == "loopback"
    assert caught.value.decision is errors.Decision.RETRY
    assert "loopback" in str(caught.value)
    assert "network.allow_private" in str(caught.value)
    assert receiver.connections == 0


async def test_a_name_is_dialled_when_its_addresses_are_opened(receiver: receivers.Receiver) -> None:
    client = webhook.WebhookClient(network.AddressPolicy(["127.0.0.0/8", "::1/128"]))
    try:
        await sender_to(f"http://localhost:{receiver.port}/hooks", client).send(outgoing(WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("number", "reason", "charged"),
    [
        (socket.EAI_NONAME, "dns_failed", True),
        (socket.EAI_AGAIN, "dns_unavailable", False),
        (socket.EAI_FAIL, "dns_unavailable", False),
    ],
)
async def test_a_name_that_does_not_exist_is_not_a_resolver_that_is_down(
    client: webhook.WebhookClient, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, charged: bool
) -> None:
    def resolve(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(errors.SendError) as caught:
        await sender_to("https://no-such-name.invalid/secret", client).send(outgoing(WEBHOOK_BODY))
    assert (caught.value.reason, caught.value.charged) == (reason, charged)
    assert caught.value.decision is errors.Decision.RETRY
    assert not caught.value.hung
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://slow.invalid/", None),
        ("https://müller.invalid/", None),
        ("https://hooks.example/", "http://slow.invalid:3128"),
    ],
)
async def test_a_resolver_that_does_not_answer_is_not_charged_to_the_destination(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    client = webhook.WebhookClient(network.AddressPolicy(), proxy=proxy)
    answered = threading.Event()

    def resolve(*args: object, **kwargs: object) -> object:
        answered.wait(30.0)
        raise socket.gaierror(socket.EAI_AGAIN, "no")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        with pytest.raises(errors.SendError) as caught:
            await sender_to(url, client, timeout=LIMIT).send(outgoing(WEBHOOK_BODY))
    finally:
        answered.set()
        await client.aclose()
    assert (caught.value.reason, caught.value.charged) == ("dns_unavailable", False)
    assert caught.value.hung


async def test_a_name_that_waits_for_those_of_others_is_not_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = fakes.Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    monkeypatch.setattr(ways, "LOOKUPS", 1)
    client = webhook.WebhookClient(network.AddressPolicy())
    first = asyncio.create_task(sender_to("https://hang.example.test/", client).send(outgoing(WEBHOOK_BODY)))
    try:
        await names.until_asked("hang.example.test")
        with pytest.raises(errors.SendError) as caught:
            await sender_to("https://a.example.test/", client, timeout=LIMIT).send(outgoing(WEBHOOK_BODY))
        assert (caught.value.reason, caught.value.hung) == ("dns_unavailable", False)
    finally:
        names.answers.set()
        await asyncio.gather(first, return_exceptions=True)
        await client.aclose()


async def test_a_process_without_descriptors_blames_nobody(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    sender = sender_to(receiver.url, client)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(errors.SendError) as caught:
            await sender.send(outgoing(WEBHOOK_BODY))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.reason, caught.value.charged) == ("no_resources", False)
    assert caught.value.decision is errors.Decision.RETRY
    await sender.send(outgoing(WEBHOOK_BODY))


@pytest.mark.parametrize(("status", "charged"), [(407, False), (403, False), (502, True), (503, True)])
async def test_a_proxy_that_refuses_is_ours_and_one_that_reaches_nobody_is_theirs(
    receiver: receivers.Receiver, status: int, charged: bool
) -> None:
    client = webhook.WebhookClient(network.AddressPolicy(), proxy=receiver.url)
    receiver.answer = receivers.Answer(status=status)
    try:
        with pytest.raises(errors.SendError) as caught:
            await sender_to("https://hooks.example/path", client).send(outgoing(WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert (caught.value.reason, caught.value.charged) == ("proxy_failed", charged)
    assert [request.method for request in receiver.requests] == ["CONNECT"]


async def test_a_proxy_that_is_down_is_not_charged_to_the_destination(receiver: receivers.Receiver) -> None:
    client = webhook.WebhookClient(network.AddressPolicy(), proxy=receiver.url)
    receiver.stop_listening()
    try:
        with pytest.raises(errors.SendError) as caught:
            await sender_to("http://hooks.example/path", client).send(outgoing(WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert (caught.value.reason, caught.value.charged) == ("proxy_failed", False)


async def test_connections_are_kept_and_a_stale_one_is_replaced_at_once(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(receiver.url, client)
    await sender.send(outgoing(WEBHOOK_BODY))
    await sender.send(outgoing(WEBHOOK_BODY))
    assert receiver.connections == 1
    receiver.script = [receivers.Answer(manner=receivers.Manner.RESET)]
    await sender.send(outgoing(WEBHOOK_BODY))
    assert (receiver.connections, len(receiver.requests)) == (2, 4)


async def test_a_peer_that_closes_idle_connections_costs_no_attempt(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(receiver.url, client)
    for sent in range(1, 6):
        assert (await sender.send(outgoing(WEBHOOK_BODY))).status_code == 204
        assert len(receiver.requests) == sent, "each was sent once"
        receiver.close_idle()
    assert receiver.connections == 5


async def test_a_second_connection_that_breaks_is_the_attempt(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    sender = sender_to(receiver.url, client)
    await sender.send(outgoing(WEBHOOK_BODY))
    receiver.answer = receivers.Answer(manner=receivers.Manner.RESET)
    with pytest.raises(errors.SendError) as caught:
        await sender.send(outgoing(WEBHOOK_BODY))
    assert (caught.value.reason, len(receiver.requests)) == ("connection_lost", 3)


async def test_a_fresh_connection_that_breaks_is_not_repeated(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    receiver.script = [receivers.Answer(manner=receivers.Manner.RESET)]
    with pytest.raises(errors.SendError) as caught:
        await sender_to(receiver.url, client).send(outgoing(WEBHOOK_BODY))
    assert (caught.value.reason, len(receiver.requests)) == ("connection_lost", 1)


async def test_only_trusted_certificates_are_accepted() -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    opened = network.AddressPolicy(["127.0.0.0/8"])
    async with receivers.serve(ssl_context=serving) as receiver:
        for tls in (None, trusting):
            client = webhook.WebhookClient(opened, tls=tls)
            try:
                sender = sender_to(receiver.url, client)
                if tls is None:
                    with pytest.raises(errors.SendError) as caught:
                        await sender.send(outgoing(WEBHOOK_BODY))
                    assert caught.value.reason == "tls_failed"
                else:
                    await sender.send(outgoing(WEBHOOK_BODY))
            finally:
                await client.aclose()
        assert len(receiver.requests) == 1


async def test_a_proxy_is_used_for_names_and_refuses_spelled_addresses(receiver: receivers.Receiver) -> None:
    client = webhook.WebhookClient(network.AddressPolicy(), proxy=receiver.url)
    try:
        await sender_to("http://hooks.example/path", client).send(outgoing(WEBHOOK_BODY))
        with pytest.raises(errors.AddressRefused) as caught:
            await sender_to("http://0xa9fea9fe/latest", client).send(outgoing(WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert caught.value.rule == "metadata"
    [request] = receiver.requests
    assert request.path == "http://hooks.example/path"


async def test_a_destination_that_hangs_holds_up_no_other(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    async with receivers.serve() as other:
        receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
        hanging = [
            asyncio.create_task(sender_to(receiver.url, client).send(outgoing(WEBHOOK_BODY)))
            for _ in range(150)
        ]
        await receiver.wait_for(webhook.CONNECTIONS_PER_HOST_MAX)
        await sender_to(other.url, client, timeout=LIMIT).send(outgoing(WEBHOOK_BODY))
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert receiver.connections == webhook.CONNECTIONS_PER_HOST_MAX


async def test_waiting_for_a_connection_of_our_own_is_charged_to_nobody(
    receiver: receivers.Receiver,
) -> None:
    """Other destinations of the same host have them all, because they hang."""
    opened = network.AddressPolicy(["127.0.0.0/8"])
    client = webhook.WebhookClient(opened, connections_per_host_max=2)
    try:
        receiver.script = [receivers.Answer(manner=receivers.Manner.HANG)] * 2
        neighbour = sender_to(f"{receiver.url}/hangs", client, timeout=PATIENCE)
        hanging = [asyncio.create_task(neighbour.send(outgoing(WEBHOOK_BODY))) for _ in range(2)]
        await receiver.wait_for(2)
        with pytest.raises(errors.SendError) as caught:
            await sender_to(f"{receiver.url}/healthy", client, timeout=LIMIT).send(outgoing(WEBHOOK_BODY))
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert (caught.value.reason, caught.value.decision) == ("no_connection", errors.Decision.RETRY)
        assert (caught.value.charged, caught.value.hung) == (False, False)
        await sender_to(f"{receiver.url}/healthy", client).send(outgoing(WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert [request.path for request in receiver.requests] == ["/hangs", "/hangs", "/healthy"]


@pytest.mark.parametrize("through", ["", "proxy"])
async def test_a_connect_that_hangs_is_the_peers(deaf: int, through: str) -> None:
    url = f"http://127.0.0.1:{deaf}"
    client = webhook.WebhookClient(network.AddressPolicy(["127.0.0.0/8"]), proxy=url if through else None)
    try:
        with pytest.raises(errors.SendError) as caught:
            await sender_to("http://hooks.example/" if through else url, client, timeout=LIMIT).send(
                outgoing(WEBHOOK_BODY)
            )
    finally:
        await client.aclose()
    assert (caught.value.reason, caught.value.charged, caught.value.hung) == ("connect_timeout", True, True)


async def test_a_handshake_that_hangs_is_the_peers(client: webhook.WebhookClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = sender_to(f"https://127.0.0.1:{silent.getsockname()[1]}/", client, timeout=LIMIT)
        with pytest.raises(errors.SendError) as caught:
            await sender.send(outgoing(WEBHOOK_BODY))
    assert (caught.value.reason, caught.value.charged, caught.value.hung) == ("connect_timeout", True, True)


@pytest.mark.parametrize("host", ["müller.example", "xn--mller-kva.example.", "MÜLLER.example."])
async def test_a_name_outside_ascii_is_a_name_like_any_other(tmp_path: Path, host: str) -> None:
    """Resolved, judged and remembered as IDNA writes it."""
    net = dialling.Net(tmp_path)
    client = webhook.WebhookClient(network.AddressPolicy(["127.0.0.0/8"]), ways=net.ways)
    try:
        async with receivers.serve() as receiver:
            receiver.answer = receivers.Answer(status=200, body=b"internal things")
            sender = sender_to(f"http://{host}:{receiver.port}/hooks", client)
            assert (await sender.send(outgoing(WEBHOOK_BODY))).detail is None, "private answers are not kept"
            assert len(receiver.requests) == 1
    finally:
        await client.aclose()
