"""Opens the senders of destinations, and closes what they share.

Everything that can be wrong with a destination is found here, before anything is sent: each problem
is one ``errors.DestinationRefused`` that names the destination and its part at fault, says what to do,
and never shows the URL or a secret.
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
from relay.senders import (
    apprise,
    apprise_jobs,
    base,
    dialling,
    headers,
    network,
    recognise,
    schemes,
    signing,
    webhook,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

_HOW_TO_SIGN: Final = "make one with: echo whsec_$(openssl rand -base64 32)"
_HOW_TO_MAKE_A_KEY: Final = "make one with: echo whsk_$(openssl rand -base64 32)"


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
    """``base.Opener``, and what the senders that it opens share: connections and worker processes."""

    def __init__(
        self, *, client: webhook.WebhookClient, pool: apprise.ApprisePool, now: Callable[[], float]
    ) -> None:
        self._client = client
        self._pool = pool
        self._now = now

    async def open(self, *specs: base.DestinationSpec) -> list[base.Opened]:
        """See ``base.Opener.open``."""
        findings = await _examine(specs)
        return [self._open(spec, findings.get(spec.name)) for spec in specs]

    def _open(self, spec: base.DestinationSpec, finding: apprise_jobs.Finding | None) -> base.Opened:
        if finding is not None:
            timeout = spec.timeout or _usual(finding)
            return base.Opened(
                sender=_chat(spec, finding, self._pool, timeout=timeout, now=self._now),
                service=finding.service or str(finding.scheme),
                timeout=timeout,
            )
        checked, timeout = _webhook(spec), spec.timeout or webhook.TIMEOUT
        return base.Opened(
            sender=webhook.WebhookSender(
                spec.name,
                url=checked.url,
                keys=checked.keys,
                ends=checked.ends,
                signing_key=checked.signing_key,
                headers=checked.headers,
                client=self._client,
                timeout=timeout,
                concurrency=spec.concurrency or webhook.CONCURRENCY,
                now=self._now,
            ),
            service="signed webhook",
            timeout=timeout,
            public_key=None if spec.signing_key is None else signing.public_key(spec.signing_key),
        )

    def make_secret(self, randomness: bytes) -> str:
        """See ``base.Opener.make_secret``."""
        return signing.format_secret(randomness)

    def make_signing_key(self, randomness: bytes) -> str:
        """See ``base.Opener.make_signing_key``."""
        return signing.format_private_key(randomness)

    async def aclose(self) -> None:
        """Close connections and end worker processes, in bounded time. Idempotent."""
        try:
            await self._client.aclose()
        finally:
            await self._pool.aclose()


def make_senders(
    network_config: NetworkConfig,
    *,
    now: Callable[[], float] = time.time,
    ways: dialling.Dialling = dialling.SYSTEM,
) -> Senders:
    """What opens senders. Nothing is dialled, and no worker is started.

    Raises ``errors.ConfigurationError``.
    """
    policy = network.AddressPolicy(network_config.allow_private)
    proxy = _proxy(network_config.proxy)
    ca_pem, tls = _authorities(network_config.ca_file)
    pool = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=network_config.allow_private, proxy=proxy, ca_pem=ca_pem),
        initializer=ways.prepare,
    )
    client = webhook.WebhookClient(policy, proxy=proxy, tls=tls, ways=ways)
    return Senders(client=client, pool=pool, now=now)


def _usual(finding: apprise_jobs.Finding) -> float:
    """Seconds for one attempt where nobody chose them."""
    return apprise.MAIL_TIMEOUT if finding.scheme in schemes.MAIL else apprise.CHAT_TIMEOUT


def _chat(
    spec: base.DestinationSpec,
    finding: apprise_jobs.Finding,
    pool: apprise.ApprisePool,
    *,
    timeout: float,
    now: Callable[[], float],
) -> apprise.AppriseSender:
    return apprise.AppriseSender(
        spec.name,
        url=spec.url,
        scheme=str(finding.scheme),
        pool=pool,
        timeout=timeout,
        concurrency=spec.concurrency or 1,
        now=now,
    )


async def _examine(specs: Iterable[base.DestinationSpec]) -> dict[str, apprise_jobs.Finding]:
    """What Apprise makes of the destinations that are its business; the others are webhooks."""
    found = await recognise.kinds({spec.name: spec.url for spec in specs})
    for spec in specs:
        finding = found[spec.name]
        if finding.problem is not None:
            raise _problem(spec, finding.problem)
        if finding.scheme is not None:
            _refuse_what_is_a_webhooks(spec, finding.scheme)
    return {name: finding for name, finding in found.items() if finding.scheme is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What a webhook's sender is made of."""

    url: yarl.URL
    keys: tuple[bytes, ...]
    ends: tuple[float | None, ...]
    signing_key: ed25519.Ed25519PrivateKey | None
    headers: Mapping[str, str]


def _webhook(spec: base.DestinationSpec) -> _Checked:
    try:
        url = webhook.parse_url(spec.url)
    except ValueError as error:
        raise _problem(spec, str(error)) from None
    if not spec.secrets and spec.signing_key is None:
        raise errors.SecretMissing(spec.name, "secret", f"a webhook needs a signing secret; {_HOW_TO_SIGN}")
    try:
        keys = tuple(signing.parse_secret(secret) for secret in spec.secrets)
    except signing.BadSecret as error:
        raise errors.DestinationRefused(spec.name, "secret", f"{error}; {_HOW_TO_SIGN}") from None
    try:
        key = signing.parse_private_key(spec.signing_key) if spec.signing_key is not None else None
    except signing.BadSecret as error:
        raise errors.DestinationRefused(spec.name, "signing_key", f"{error}; {_HOW_TO_MAKE_A_KEY}") from None
    return _Checked(url=url, keys=keys, ends=spec.ends, signing_key=key, headers=_headers(spec, url))


def _headers(spec: base.DestinationSpec, url: yarl.URL) -> Mapping[str, str]:
    try:
        taken = headers.parse(spec.headers)
    except headers.BadHeader as error:
        raise errors.DestinationRefused(spec.name, "headers", str(error)) from None
    if url.user is not None and any(name.lower() == "authorization" for name in taken):
        raise errors.DestinationRefused(
            spec.name,
            "headers",
            "Authorization is already made of the user in the URL; keep one of the two",
        )
    return taken


def _refuse_what_is_a_webhooks(spec: base.DestinationSpec, scheme: str) -> None:
    """A chat service or mail server takes neither signatures nor headers."""
    part, what = "", ""
    if spec.secrets:
        part, what = "secret", "only webhooks are signed"
    elif spec.signing_key is not None:
        part, what = "signing_key", "only webhooks are signed"
    elif spec.headers:
        part, what = "headers", "only webhooks take headers of their own"
    if part:
        raise errors.DestinationRefused(spec.name, part, f"{what}, not {scheme}://; remove it")


def _problem(spec: base.DestinationSpec, problem: str) -> errors.DestinationRefused:
    return errors.DestinationRefused(spec.name, "url", problem)


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
