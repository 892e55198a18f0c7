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
from typing import TYPE_CHECKING, Final

import yarl

from relay.domain import errors
from relay.senders import apprise, apprise_jobs, base, headers, network, recognise, schemes, signing, webhook

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

_HOW_TO_SIGN: Final = "make one with: echo whsec_$(openssl rand -base64 32)"
_HOW_TO_MAKE_A_KEY: Final = "make one with: echo whsk_$(openssl rand -base64 32)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationConfig:
    """One destination.

    ``secrets`` are ``whsec_…``, newest first, ``signing_key`` is a ``whsk_…``; a webhook needs one of
    the two kinds, and may have both. ``headers`` go along with every webhook; their values may be
    secrets. ``timeout`` is in seconds; ``None`` means the default of its kind, for ``concurrency`` too.
    """

    name: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
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
    ``public_keys`` holds the ``whpk_…`` of those that are signed with ``v1a``.
    """

    def __init__(
        self,
        senders: Mapping[str, base.Sender],
        services: Mapping[str, str],
        *,
        public_keys: Mapping[str, str],
        client: webhook.WebhookClient,
        pool: apprise.ApprisePool,
    ) -> None:
        self.senders = senders
        self.services = services
        self.public_keys = public_keys
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
    public_keys = {c.name: signing.public_key(c.signing_key) for c in configs if c.signing_key is not None}
    pool = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=network_config.allow_private, proxy=proxy, ca_pem=ca_pem)
    )
    client = webhook.WebhookClient(policy, proxy=proxy, tls=tls)
    senders: dict[str, base.Sender] = {}
    services: dict[str, str] = {}
    for config in configs:
        finding = findings.get(config.name)
        if finding is None:
            checked = parsed[config.name]
            senders[config.name] = webhook.WebhookSender(
                config.name,
                url=checked.url,
                keys=checked.keys,
                signing_key=checked.signing_key,
                headers=checked.headers,
                client=client,
                timeout=config.timeout or webhook.TIMEOUT,
                concurrency=config.concurrency or webhook.CONCURRENCY,
                now=now,
            )
            services[config.name] = "signed webhook"
        else:
            senders[config.name] = _chat(config, finding, pool, now)
            services[config.name] = finding.service or str(finding.scheme)
    return Senders(senders, services, public_keys=public_keys, client=client, pool=pool)


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
    asked: dict[str, str] = {}
    for config in configs:
        scheme = config.url.partition("://")[0].lower() if "://" in config.url else None
        if scheme is None:
            raise _problem(config, "a URL starts with a scheme such as https:// or slack://")
        if scheme in ("http", "https"):
            if recognise.askable(config.url):
                asked[config.name] = config.url
        elif (problem := schemes.problem(scheme)) is not None:
            raise _problem(config, problem)
        elif config.secrets:
            raise errors.ConfigurationError(
                f"destinations.{config.name}.secret: only webhooks are signed, {scheme}:// is not; remove it"
            )
        else:
            asked[config.name] = config.url
    found = await recognise.examine(asked)
    for config in configs:
        finding = found.get(config.name)
        if finding is not None and finding.problem is not None:
            raise _problem(config, finding.problem)
        if finding is not None and finding.scheme is not None:
            _refuse_what_is_a_webhooks(config, finding.scheme)
    return {name: finding for name, finding in found.items() if finding.scheme is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What a webhook's sender is made of."""

    url: yarl.URL
    keys: tuple[bytes, ...]
    signing_key: ed25519.Ed25519PrivateKey | None
    headers: Mapping[str, str]


def _webhook(config: DestinationConfig) -> _Checked:
    try:
        url = webhook.parse_url(config.url)
    except ValueError as error:
        raise _problem(config, str(error)) from None
    if not config.secrets and config.signing_key is None:
        raise errors.ConfigurationError(
            f"destinations.{config.name}.secret: a webhook needs a signing secret; {_HOW_TO_SIGN}"
        )
    try:
        keys = tuple(signing.parse_secret(secret) for secret in config.secrets)
    except signing.BadSecret as error:
        raise errors.ConfigurationError(
            f"destinations.{config.name}.secret: {error}; {_HOW_TO_SIGN}"
        ) from None
    try:
        key = signing.parse_private_key(config.signing_key) if config.signing_key is not None else None
    except signing.BadSecret as error:
        raise errors.ConfigurationError(
            f"destinations.{config.name}.signing_key: {error}; {_HOW_TO_MAKE_A_KEY}"
        ) from None
    return _Checked(url=url, keys=keys, signing_key=key, headers=_headers(config, url))


def _headers(config: DestinationConfig, url: yarl.URL) -> Mapping[str, str]:
    where = f"destinations.{config.name}.headers"
    try:
        taken = headers.parse(config.headers)
    except headers.BadHeader as error:
        raise errors.ConfigurationError(f"{where}: {error}") from None
    if url.user is not None and any(name.lower() == "authorization" for name in taken):
        raise errors.ConfigurationError(
            f"{where}: Authorization is already made of the user in the URL; keep one of the two"
        )
    return taken


def _refuse_what_is_a_webhooks(config: DestinationConfig, scheme: str) -> None:
    """A chat service or mail server takes neither signatures nor headers."""
    where, what = f"destinations.{config.name}", None
    if config.signing_key is not None:
        where, what = f"{where}.signing_key", "only webhooks are signed"
    elif config.headers:
        where, what = f"{where}.headers", "only webhooks take headers of their own"
    if what is not None:
        raise errors.ConfigurationError(f"{where}: {what}, not {scheme}://; remove it")


def _problem(config: DestinationConfig, problem: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(f"destinations.{config.name}.url: {problem}")


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
