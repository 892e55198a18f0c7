"""``network.proxy`` and ``network.ca_file``, as every sender uses them, and what is never used instead."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from relay.domain import errors
from relay.senders import base, opening, signing
from tests.fakes import proxy as proxies
from tests.fakes import receivers, smtp
from tests.senders import channels
from tests.senders.conftest import KEY, outgoing

NAME = "hooks.example"
LOGIN = "relay:hunter2"
HTTPS = ["https", "jsons", "ntfys"]
HTTP = ["http", "json", "ntfy"]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """What goes into ``network.ca_file``."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
async def https(authority: trustme.CA) -> AsyncIterator[receivers.Receiver]:
    """Serves ``hooks.example``, which nobody but the proxy can find."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(serving)
    async with receivers.serve(ssl_context=serving) as served:
        served.answer = receivers.Answer(status=200, body=b"{}")
        yield served


async def attempt(urls: list[str], network: opening.NetworkConfig) -> dict[str, errors.SendError | None]:
    """Send one message to each, as the daemon does; the failures."""
    configs = {
        url: base.DestinationSpec(
            name=f"d{number}",
            url=url,
            secrets=(signing.format_secret(KEY),) if url.startswith("http") else (),
        )
        for number, url in enumerate(urls)
    }
    opened = opening.make_senders(network)
    outcomes: dict[str, errors.SendError | None] = {}
    try:
        senders = {each.sender.name: each.sender for each in await opened.open(*configs.values())}
        for url, config in configs.items():
            try:
                body = channels.WEBHOOK_BODY if config.secrets else channels.BODY
                await senders[config.name].send(outgoing(body))
                outcomes[url] = None
            except errors.SendError as failure:
                outcomes[url] = failure
    finally:
        await opened.aclose()
    told = [f"{failure} {failure!r}" for failure in outcomes.values()]
    assert not any("hunter2" in text for text in told)
    return outcomes


async def send(urls: list[str], network: opening.NetworkConfig) -> None:
    assert set((await attempt(urls, network)).values()) == {None}


async def fail_all(urls: list[str], network: opening.NetworkConfig) -> dict[str, errors.SendError]:
    failures = await attempt(urls, network)
    assert None not in failures.values()
    return {url: failure for url, failure in failures.items() if failure is not None}


def urls_of(schemes: list[str], authority: str = NAME) -> list[str]:
    return [f"{scheme}://{authority}/topic" for scheme in schemes]


async def test_tls_goes_through_a_tunnel_and_trusts_the_file(
    https: receivers.Receiver, ca_file: Path
) -> None:
    async with proxies.serve({NAME: https.port}, login=LOGIN) as proxy:
        await send(urls_of(HTTPS), opening.NetworkConfig(proxy=proxy.url, ca_file=ca_file))
    assert proxy.requests == [f"CONNECT {NAME}:443"] * 3
    assert len(https.requests) == 3
    for request in https.requests:
        assert request.headers["host"] == NAME
        assert not any(header.startswith("proxy-") for header in request.headers)


async def test_without_the_file_nobody_else_is_trusted(https: receivers.Receiver) -> None:
    async with proxies.serve({NAME: https.port}) as proxy:
        failures = await fail_all(urls_of(HTTPS), opening.NetworkConfig(proxy=proxy.url))
    assert [failure.reason for failure in failures.values()] == ["tls_failed"] * 3
    assert https.requests == []


async def test_plain_http_is_forwarded() -> None:
    async with receivers.serve() as receiver, proxies.serve({NAME: receiver.port}, login=LOGIN) as proxy:
        receiver.answer = receivers.Answer(status=200, body=b"{}")
        await send(urls_of(HTTP), opening.NetworkConfig(proxy=proxy.url))
        assert len(receiver.requests) == 3
    assert len(proxy.requests) == 3
    assert all(request.startswith(f"POST http://{NAME}/") for request in proxy.requests)


async def test_a_proxy_that_refuses_is_told_from_a_receiver() -> None:
    """Where it can be: a forwarded request is answered by either, and who it was is not to be seen."""
    reasons = {f"{scheme}://{NAME}/topic": "http_403" for scheme in HTTP}
    reasons |= {f"{scheme}://{NAME}/topic": "proxy_failed" for scheme in HTTPS}
    async with proxies.serve({}) as proxy:
        refused = await fail_all(list(reasons), opening.NetworkConfig(proxy=proxy.url))
    assert {url: failure.reason for url, failure in refused.items()} == reasons


async def test_what_is_spelled_out_is_judged_before_the_proxy_hears_of_it() -> None:
    spelled = {
        "127.0.0.1": "loopback",
        "localhost": "loopback",
        "www.localhost": "loopback",
        "2852039166": "metadata",
        "[64:ff9b::a9fe:a9fe]": "metadata",
    }
    rules = {f"{scheme}://{host}/topic": rule for scheme in [*HTTP, *HTTPS] for host, rule in spelled.items()}
    async with proxies.serve({}) as proxy:
        refused = await fail_all(list(rules), opening.NetworkConfig(proxy=proxy.url))
    assert {url: getattr(failure, "rule", failure.reason) for url, failure in refused.items()} == rules
    assert proxy.requests == []


async def test_mail_does_not_use_it() -> None:
    """And may not reach other ports of the proxy's machine, though the proxy itself is not judged."""
    async with proxies.serve({}) as proxy, smtp.serve() as server:
        url = f"mailto://127.0.0.1:{server.port}/?from=relay@example.com&to=me@example.com&mode=insecure"
        [failure] = (await fail_all([url], opening.NetworkConfig(proxy=proxy.url))).values()
        assert isinstance(failure, errors.AddressRefused)
        assert (failure.rule, server.connections) == ("loopback", 0)
        await send([url], opening.NetworkConfig(proxy=proxy.url, allow_private=("127.0.0.0/8",)))
        assert len(server.mails) == 1
    assert proxy.requests == []


async def test_neither_proxies_nor_logins_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    async with receivers.serve() as receiver, proxies.serve({"127.0.0.1": receiver.port}) as proxy:
        receiver.answer = receivers.Answer(status=200, body=b"{}")
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        opened = opening.NetworkConfig(allow_private=("127.0.0.0/8",))
        await send(urls_of(HTTP, f"127.0.0.1:{receiver.port}"), opened)
        assert len(receiver.requests) == 3
        assert not any("authorization" in request.headers for request in receiver.requests)
    assert proxy.requests == []
