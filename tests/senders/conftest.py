"""Fixtures of the sender tests: workers are started once, receivers per test."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trustme
import yarl

from relay.senders import apprise, apprise_jobs, base, network, webhook
from tests.fakes import receivers
from tests.senders import channels, workers

LIMIT = 0.8
"""Seconds: the time limit of senders whose peer hangs."""

PATIENCE = 30.0
"""Seconds: that of all others, so that nothing depends on the speed of the machine."""

KEY = bytes(range(32))
OLD_KEY = bytes(range(100, 132))


@pytest.fixture(scope="session")
def address_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where test workers read the address of the receiver."""
    return tmp_path_factory.mktemp("senders") / "address"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A private authority, which test workers trust."""
    return trustme.CA()


@pytest.fixture(scope="session")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    """What a receiver on loopback needs for https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def pool(address_file: Path, authority: trustme.CA) -> Iterator[apprise.ApprisePool]:
    """Workers that may dial loopback."""
    made = apprise.ApprisePool(
        apprise_jobs.Surroundings(
            allow_private=("127.0.0.0/8",), ca_pem=authority.cert_pem.bytes().decode("ascii")
        ),
        seats=2,
        initializer=functools.partial(workers.prepare, address_file=address_file),
    )
    yield made
    asyncio.run(made.aclose())


def _tell_workers(address_file: Path, url: str) -> None:
    address_file.write_text(url)


@pytest.fixture
async def receiver(
    request: pytest.FixtureRequest, address_file: Path, serving: ssl.SSLContext
) -> AsyncIterator[receivers.Receiver]:
    """A receiver, which the patched services reach too; with https for the channel that has no other."""
    tls = "channel" in request.fixturenames and request.getfixturevalue("channel").tls
    async with receivers.serve(ssl_context=serving if tls else None) as served:
        _tell_workers(address_file, served.url)
        yield served


@pytest.fixture
async def client() -> AsyncIterator[webhook.WebhookClient]:
    """The session of webhooks, with loopback opened."""
    made = webhook.WebhookClient(network.AddressPolicy(["127.0.0.0/8"]))
    yield made
    await made.aclose()


@pytest.fixture(params=channels.CHANNELS, ids=lambda channel: channel.name)
def channel(request: pytest.FixtureRequest) -> channels.Channel:
    """Each kind of destination in turn."""
    found: channels.Channel = request.param
    return found


Make = Callable[[float], base.Sender]


@pytest.fixture
def make(
    channel: channels.Channel,
    receiver: receivers.Receiver,
    pool: apprise.ApprisePool,
    client: webhook.WebhookClient,
) -> Make:
    """Makes a sender of that kind, bound to the receiver, with a time limit in seconds."""
    receiver.answer = channel.success
    url = channel.url(receiver.port)

    def made(limit: float) -> base.Sender:
        if channel.chat:
            return apprise.AppriseSender(
                "renders", url=url, scheme=url.partition("://")[0], pool=pool, timeout=limit
            )
        return webhook.WebhookSender("renders", url=yarl.URL(url), keys=[KEY], client=client, timeout=limit)

    return made


@pytest.fixture
def sender(make: Make) -> base.Sender:
    """A sender that waits longer than any machine needs."""
    return make(PATIENCE)


@pytest.fixture
def hasty(make: Make) -> base.Sender:
    """A sender to the same peer that does not wait long: for peers that hang."""
    return make(LIMIT)


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port to which connecting never ends: its queue is full and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        connected = True
        while connected:
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                queued.connect(server.getsockname())
            connected = bool(select.select([], [queued], [], 0.2)[1])
        yield server.getsockname()[1]


def outgoing(body: bytes, *, attempt: int = 1) -> base.Outgoing:
    """One notification."""
    return base.Outgoing(delivery_id="msg_test", type="task.succeeded", body=body, attempt=attempt)


def sender_to(url: str, client: webhook.WebhookClient, *, timeout: float = 10.0) -> webhook.WebhookSender:
    """A webhook that is signed with both keys."""
    return webhook.WebhookSender(
        "pipeline", url=webhook.parse_url(url), keys=[KEY, OLD_KEY], client=client, timeout=timeout
    )
