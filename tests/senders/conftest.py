"""Fixtures of the sender tests: workers are started once, receivers per test."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yarl

from relay.senders import apprise, apprise_jobs, base, network, webhook
from tests.fakes import receivers
from tests.senders import channels, workers

LIMIT = 0.8
"""Seconds: the time limit of senders under test."""

KEY = bytes(range(32))


@pytest.fixture(scope="session")
def address_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where test workers read the address of the receiver."""
    return tmp_path_factory.mktemp("senders") / "address"


@pytest.fixture(scope="session")
def pool(address_file: Path) -> Iterator[apprise.ApprisePool]:
    """Workers that may dial loopback."""
    made = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)),
        seats=2,
        initializer=functools.partial(workers.prepare, address_file=address_file),
    )
    yield made
    asyncio.run(made.aclose())


def _tell_workers(address_file: Path, url: str) -> None:
    address_file.write_text(url)


@pytest.fixture
async def receiver(address_file: Path) -> AsyncIterator[receivers.Receiver]:
    """A receiver, which the patched services reach too."""
    async with receivers.serve() as served:
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


@pytest.fixture
def sender(
    channel: channels.Channel,
    receiver: receivers.Receiver,
    pool: apprise.ApprisePool,
    client: webhook.WebhookClient,
) -> base.Sender:
    """A sender of that kind, bound to the receiver."""
    receiver.answer = channel.success
    url = channel.url(receiver.port)
    if channel.chat:
        return apprise.AppriseSender(
            "renders", url=url, scheme=url.partition("://")[0], pool=pool, timeout=LIMIT
        )
    return webhook.WebhookSender("renders", url=yarl.URL(url), keys=[KEY], client=client, timeout=LIMIT)


def outgoing(body: bytes, *, attempt: int = 1) -> base.Outgoing:
    """One notification."""
    return base.Outgoing(delivery_id="msg_test", type="task.succeeded", body=body, attempt=attempt)
