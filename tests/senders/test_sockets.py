"""Chat services that speak neither HTTP nor SMTP: how it ends when nobody is reached, or understood."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.domain import errors
from relay.senders import apprise, apprise_jobs, judging, opening
from tests.fakes import dialling
from tests.senders import channels
from tests.senders.conftest import outgoing

RETRY = errors.Decision.RETRY
SECRET = "5b" * 32
PROTOCOLS = {
    "irc": "irc://user:{secret}@{host}/#renders",
    "ircs": "ircs://user:{secret}@{host}/#renders",
    "nostr": "nostr://{secret}/?relay=ws://{host}",
}


def url_of(scheme: str, host: str) -> str:
    return PROTOCOLS[scheme].format(secret=SECRET, host=host)


@pytest.fixture(scope="module")
def lone_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apprise.ApprisePool]:
    """A worker for which names are answered here; those of public services do not exist."""
    directory = tmp_path_factory.mktemp("net")
    made = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)),
        seats=1,
        initializer=dialling.Net(directory).ways.prepare,
    )
    yield made
    asyncio.run(made.aclose())


async def fail(pool: apprise.ApprisePool, url: str, *, limit: float = 30.0) -> errors.SendError:
    """The error of a send that must fail; it never shows a secret."""
    scheme = url.partition("://")[0]
    sender = apprise.AppriseSender("renders", url=url, scheme=scheme, pool=pool, timeout=limit)
    with pytest.raises(errors.SendError) as caught:
        await sender.send(outgoing(channels.BODY))
    assert SECRET not in f"{caught.value} {caught.value!r}"
    return caught.value


@contextlib.asynccontextmanager
async def serve(said: bytes) -> AsyncIterator[int]:
    """A port where everybody is told ``said`` and sent away."""

    async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(told, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("scheme", PROTOCOLS)
async def test_a_closed_port_is_retried(lone_pool: apprise.ApprisePool, scheme: str) -> None:
    failure = await fail(lone_pool, url_of(scheme, f"127.0.0.1:{closed_port()}"))
    assert (failure.reason, failure.decision) == ("connect_failed", RETRY)
    assert (failure.charged, failure.hung) == (True, False)


@pytest.mark.parametrize(
    "url",
    [*(url_of(scheme, "nobody.test") for scheme in PROTOCOLS), "aprs://DF1JSL-15:12345@DF1ABC"],
    ids=[*PROTOCOLS, "aprs"],
)
async def test_a_name_that_does_not_exist_is_retried(lone_pool: apprise.ApprisePool, url: str) -> None:
    failure = await fail(lone_pool, url)
    assert (failure.reason, failure.decision, failure.charged) == ("dns_failed", RETRY, True)


def without_resolver(surroundings: apprise_jobs.Surroundings) -> None:
    """A worker that finds no resolver."""

    def getaddrinfo(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "no")

    socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]
    apprise_jobs.prepare(surroundings)


async def test_a_resolver_that_is_down_is_not_charged_to_the_destination() -> None:
    pool = apprise.ApprisePool(apprise_jobs.Surroundings(), seats=1, initializer=without_resolver)
    try:
        failure = await fail(pool, url_of("irc", "chat.test"))
    finally:
        await pool.aclose()
    assert (failure.reason, failure.decision, failure.charged) == ("dns_unavailable", RETRY, False)


async def test_a_connect_that_hangs_is_the_peers(lone_pool: apprise.ApprisePool, deaf: int) -> None:
    failure = await fail(lone_pool, url_of("irc", f"127.0.0.1:{deaf}"), limit=4.0)
    assert (failure.reason, failure.decision, failure.hung) == ("connect_timeout", RETRY, True)


async def test_a_certificate_that_nobody_signed_is_told(
    lone_pool: apprise.ApprisePool, serving: ssl.SSLContext
) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=serving)
    async with server:
        failure = await fail(lone_pool, url_of("ircs", f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    assert (failure.reason, failure.decision) == ("tls_failed", RETRY)


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("irc", b"ERROR :Closing Link: reconnecting too fast\r\n"),
        ("irc", b""),
        ("nostr", b"HTTP/1.1 403 Forbidden\r\n\r\n"),
    ],
)
async def test_what_was_reached_and_not_understood_is_retried(
    lone_pool: apprise.ApprisePool, scheme: str, said: bytes
) -> None:
    async with serve(said) as port:
        failure = await fail(lone_pool, url_of(scheme, f"127.0.0.1:{port}"))
    assert (failure.reason, failure.decision, failure.charged) == ("bad_answer", RETRY, True)


async def test_the_one_that_was_reached_counts_of_several(lone_pool: apprise.ApprisePool) -> None:
    async with serve(b"HTTP/1.1 403 Forbidden\r\n\r\n") as port:
        hosts = f"127.0.0.1:{closed_port()},ws%3A%2F%2F127.0.0.1:{port}"
        failure = await fail(lone_pool, url_of("nostr", hosts))
    assert failure.reason == "bad_answer"


async def test_only_what_contacts_nobody_was_not_attempted(lone_pool: apprise.ApprisePool) -> None:
    failure = await fail(lone_pool, f"irc://user:{SECRET}@127.0.0.1:{closed_port()}/")
    assert (failure.reason, failure.decision) == ("not_attempted", errors.Decision.DEAD)


async def test_an_address_that_may_not_be_dialled_is_still_refused(tmp_path: Path) -> None:
    prepare = dialling.Net(tmp_path).ways.prepare
    pool = apprise.ApprisePool(apprise_jobs.Surroundings(), seats=1, initializer=prepare)
    try:
        for host in ("127.0.0.1:9", "private.test"):
            assert isinstance(await fail(pool, url_of("irc", host)), errors.AddressRefused)
    finally:
        await pool.aclose()


async def test_one_may_ask_before(tmp_path: Path) -> None:
    judge = functools.partial(
        judging.judge, network_config=opening.NetworkConfig(), ways=dialling.Net(tmp_path).ways
    )
    assert (await judge(url_of("irc", "public.test"))).verdict is judging.Verdict.ALLOWED
    assert (await judge(url_of("irc", "private.test"))).verdict is judging.Verdict.REFUSED
    assert (await judge(url_of("irc", "nobody.test"))).verdict is judging.Verdict.UNRESOLVED
