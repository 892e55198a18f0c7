"""Opens a sender for each configured destination, and closes them.

Everything that can be wrong with a destination is found here, before anything is sent: each problem
is one ``errors.ConfigurationError`` that names the destination and says what to do, and never
shows the URL or a secret.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yarl

from relay.domain import errors
from relay.senders import (
    apprise,
    apprise_jobs,
    base,
    dialling,
    network,
    recognise,
    schemes,
    signing,
    webhook,
)

_HOW_TO_SIGN: Final = "make one with: echo whsec_$(openssl rand -base64 32)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationConfig:
    """One destination. ``secrets`` are ``whsec_…``, newest first; webhooks need one.

    ``timeout`` is in seconds; ``None`` means the default of its kind, for ``concurrency`` too.
    """

    name: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """``[network]``: CIDR ranges that are opened, an http(s) proxy, a file of additional CAs.

    Through a proxy, names are resolved and dialled by the proxy: only addresses spelled out in a URL
    are judged here, the rest is the proxy's to refuse. SMTP never uses it.
    """

    allow_private: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    ca_file: Path | None = None


class Senders:
    """The opened senders by destination name, and what they share.

    ``services`` names for each destination what it is sent as, such as ``signed webhook`` or ``Slack``.
    """

    def __init__(
        self,
        senders: Mapping[str, base.Sender],
        services: Mapping[str, str],
        *,
        client: webhook.WebhookClient,
        pool: apprise.ApprisePool,
    ) -> None:
        self.senders = senders
        self.services = services
        self._client = client
        self._pool = pool

    async def aclose(self) -> None:
        """Close connections and end worker processes, in bounded time. Idempotent."""
        try:
            await self._client.aclose()
        finally:
            await self._pool.aclose()


async def open_senders(
    destinations: Iterable[DestinationConfig],
    network_config: NetworkConfig,
    *,
    now: Callable[[], float] = time.time,
    ways: dialling.Dialling = dialling.SYSTEM,
) -> Senders:
    """Check every destination and make its sender. Nothing is dialled, and no worker is started.

    Raises ``errors.ConfigurationError``.
    """
    configs = list(destinations)
    findings = await _examine(configs)
    policy = network.AddressPolicy(network_config.allow_private)
    proxy = _proxy(network_config.proxy)
    ca_pem, tls = _authorities(network_config.ca_file)
    parsed = {c.name: _webhook(c) for c in configs if findings.get(c.name) is None}
    pool = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=network_config.allow_private, proxy=proxy, ca_pem=ca_pem),
        initializer=ways.prepare,
    )
    client = webhook.WebhookClient(policy, proxy=proxy, tls=tls, ways=ways)
    senders: dict[str, base.Sender] = {}
    services: dict[str, str] = {}
    for config in configs:
        finding = findings.get(config.name)
        if finding is None:
            url, keys = parsed[config.name]
            senders[config.name] = webhook.WebhookSender(
                config.name,
                url=url,
                keys=keys,
                client=client,
                timeout=config.timeout or webhook.TIMEOUT,
                concurrency=config.concurrency or webhook.CONCURRENCY,
                now=now,
            )
            services[config.name] = "signed webhook"
        else:
            senders[config.name] = _chat(config, finding, pool, now)
            services[config.name] = finding.service or str(finding.scheme)
    return Senders(senders, services, client=client, pool=pool)


def _chat(
    config: DestinationConfig,
    finding: apprise_jobs.Finding,
    pool: apprise.ApprisePool,
    now: Callable[[], float],
) -> apprise.AppriseSender:
    usual = apprise.MAIL_TIMEOUT if finding.scheme in schemes.MAIL else apprise.CHAT_TIMEOUT
    return apprise.AppriseSender(
        config.name,
        url=config.url,
        scheme=str(finding.scheme),
        pool=pool,
        timeout=config.timeout or usual,
        concurrency=config.concurrency or 1,
        now=now,
    )


async def _examine(configs: Iterable[DestinationConfig]) -> dict[str, apprise_jobs.Finding]:
    """What Apprise makes of the destinations that are its business; the others are webhooks."""
    found = await recognise.kinds({config.name: config.url for config in configs})
    for config in configs:
        finding = found[config.name]
        if finding.problem is not None:
            raise _problem(config, finding.problem)
        if config.secrets and not config.url.lower().startswith(("http:", "https:")):
            raise errors.ConfigurationError(
                f"destinations.{config.name}.secret: only webhooks are signed, {finding.scheme}:// is not; "
                "remove it"
            )
    return {name: finding for name, finding in found.items() if finding.scheme is not None}


def _webhook(config: DestinationConfig) -> tuple[yarl.URL, tuple[bytes, ...]]:
    try:
        url = webhook.parse_url(config.url)
    except ValueError as error:
        raise _problem(config, str(error)) from None
    if not config.secrets:
        raise errors.ConfigurationError(
            f"destinations.{config.name}.secret: a webhook needs a signing secret; {_HOW_TO_SIGN}"
        )
    try:
        return url, tuple(signing.parse_secret(secret) for secret in config.secrets)
    except signing.BadSecret as error:
        raise errors.ConfigurationError(
            f"destinations.{config.name}.secret: {error}; {_HOW_TO_SIGN}"
        ) from None


def _problem(config: DestinationConfig, problem: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(f"destinations.{config.name}.url: {problem}")


def surroundings(config: NetworkConfig) -> apprise_jobs.Surroundings:
    """``config`` as chat workers take it. Raises ``errors.ConfigurationError``."""
    ca_pem, _ = _authorities(config.ca_file)
    return apprise_jobs.Surroundings(
        allow_private=config.allow_private, proxy=_proxy(config.proxy), ca_pem=ca_pem
    )


def _proxy(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        url = webhook.parse_url(text)
    except ValueError:
        raise errors.ConfigurationError(
            "network.proxy: it is an http:// or https:// URL such as http://egress:3128"
        ) from None
    return str(url)


def _authorities(ca_file: Path | None) -> tuple[str | None, ssl.SSLContext]:
    """The additional CAs as PEM text, and a context that trusts them beside the usual ones."""
    context = ssl.create_default_context()
    if ca_file is None:
        return None, context
    try:
        pem = ca_file.read_text(encoding="ascii", errors="replace")
        context.load_verify_locations(cadata=pem)
    except OSError as error:  # ssl.SSLError is one too
        said = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no PEM certificate"
        raise errors.ConfigurationError(f"network.ca_file: {ca_file} cannot be used: {said}") from None
    return pem, context
