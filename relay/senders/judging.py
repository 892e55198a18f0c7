"""Says what relay would make of a URL, and whether it would be dialled, without dialling anything.

For ``relay config check``, ``relay config check-url`` and whoever takes a destination from outside. It
only makes for a good message: what counts is the judgement at the moment of dialling, which this one
asks (a name may resolve differently then). Chat and mail URLs are judged by the very code that sends
to them, in a worker that is kept from dialling, since only the service knows which host it is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import yarl

from relay.domain import errors
from relay.senders import apprise, apprise_jobs, dialling, network, opening, recognise, webhook

RESOLVE_TIMEOUT: Final = 10.0
"""Seconds for resolving one name."""

SETTING: Final = "network.allow_private"
"""The only setting that opens an address."""


class Verdict(StrEnum):
    """What becomes of a URL."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    """An address rule refuses it."""
    UNRESOLVED = "unresolved"
    """Its name does not resolve now; it may later."""
    UNUSABLE = "unusable"
    """Nothing can ever be sent to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What relay makes of one URL. Nothing in it is secret.

    ``service`` is what it is sent as, ``shown`` scheme and host of a webhook and the scheme alone of
    anything else; both ``None`` where the URL cannot be read. ``addresses`` are those of a webhook's
    host, each with the rule that refuses it. ``rule`` is the rule that decided, ``problem`` one line on
    why nothing would be sent. ``proxied`` says that ``network.proxy`` resolves and dials.
    """

    verdict: Verdict
    service: str | None = None
    shown: str | None = None
    addresses: tuple[tuple[str, network.Rule | None], ...] = ()
    rule: network.Rule | None = None
    problem: str | None = None
    proxied: bool = False

    @property
    def opened_by(self) -> str | None:
        """The setting that could open it, or ``None``."""
        return SETTING if self.rule is not None and self.rule.openable else None


async def judge(
    url: str,
    network_config: opening.NetworkConfig,
    *,
    resolve: bool = True,
    ways: dialling.Dialling = dialling.SYSTEM,
) -> Judgement:
    """As ``judge_all``, of one URL."""
    return (await judge_all({"url": url}, network_config, resolve=resolve, ways=ways))["url"]


async def judge_all(
    urls: Mapping[str, str],
    network_config: opening.NetworkConfig,
    *,
    resolve: bool,
    ways: dialling.Dialling = dialling.SYSTEM,
) -> dict[str, Judgement]:
    """What relay makes of each URL, by name.

    Names are resolved if ``resolve``, else only addresses that are spelled out are judged. Raises
    ``errors.ConfigurationError`` for a network that cannot be used.
    """
    surroundings = opening.surroundings(network_config)
    reach = apprise_jobs.Reach.RESOLVE if resolve else apprise_jobs.Reach.READ
    # One worker is enough, and it is started by the first URL that needs it.
    pool = apprise.ApprisePool(
        dataclasses.replace(surroundings, reach=reach), seats=1, initializer=ways.prepare
    )
    webhooks = _Webhooks(
        network.AddressPolicy(network_config.allow_private),
        proxied=surroundings.proxy is not None,
        resolve=resolve,
        ways=ways,
    )
    try:
        found = await recognise.kinds(urls)
        return {
            name: await _judge(url, found[name], pool=pool, webhooks=webhooks, proxied=webhooks.proxied)
            for name, url in urls.items()
        }
    finally:
        await pool.aclose()


async def _judge(
    url: str,
    finding: apprise_jobs.Finding,
    *,
    pool: apprise.ApprisePool,
    webhooks: _Webhooks,
    proxied: bool,
) -> Judgement:
    if finding.problem is not None:
        shown = f"{finding.scheme}://" if finding.service is not None else None
        return Judgement(
            verdict=Verdict.UNUSABLE, service=finding.service, shown=shown, problem=finding.problem
        )
    if finding.scheme is None:
        try:
            parsed = webhook.parse_url(url)
        except ValueError as error:
            rule = network.Rule.UNREADABLE if isinstance(error, network.Unreadable) else None
            return Judgement(verdict=Verdict.UNUSABLE, rule=rule, problem=str(error))
        return await webhooks.judge(parsed)
    judged = Judgement(
        verdict=Verdict.ALLOWED,
        service=finding.service or finding.scheme,
        shown=f"{finding.scheme}://",
        proxied=proxied,
    )
    job = apprise_jobs.Job(url=url, title="test", text="test", limit=RESOLVE_TIMEOUT)
    try:
        report = await pool.send(job, who=str(judged.shown))
    except errors.SendError as error:
        return dataclasses.replace(judged, verdict=Verdict.UNRESOLVED, problem=str(error))
    if report.rule is not None:
        return _refused(judged, "its host", report.rule)
    if report.reached:
        return judged
    if report.fault in (apprise_jobs.Fault.DNS_FAILED, apprise_jobs.Fault.DNS_UNAVAILABLE):
        return dataclasses.replace(
            judged, verdict=Verdict.UNRESOLVED, problem="the name of its host cannot be resolved"
        )
    problem = report.problem or f"{judged.service} does not contact anything for this URL: a part is missing"
    return dataclasses.replace(judged, verdict=Verdict.UNUSABLE, problem=problem)


class _Webhooks:
    """Judges webhooks as ``webhook.WebhookClient`` does."""

    def __init__(
        self, policy: network.AddressPolicy, *, proxied: bool, resolve: bool, ways: dialling.Dialling
    ) -> None:
        self.proxied = proxied
        self._policy = policy
        self._resolve = resolve
        self._ways = ways

    async def judge(self, url: yarl.URL) -> Judgement:
        """What becomes of a URL that ``webhook.parse_url`` took."""
        host = url.raw_host or ""
        judged = Judgement(
            verdict=Verdict.ALLOWED, service="signed webhook", shown=str(url.origin()), proxied=self.proxied
        )
        spelled = network.spelled(host)
        if spelled is not None and (self.proxied or not self._resolve or network.literal(host)):
            addresses = [str(spelled)]
        elif self.proxied or not self._resolve:
            return judged
        else:
            try:
                addresses = await self._addresses(host, url.port or 0)
            except (OSError, TimeoutError):
                return dataclasses.replace(
                    judged, verdict=Verdict.UNRESOLVED, problem=f"the name {host} cannot be resolved"
                )
        each = tuple((address, self._policy.refusal(address)) for address in addresses)
        judged = dataclasses.replace(judged, addresses=each)
        rule = self._policy.refusal_of_any(addresses)
        return judged if rule is None else _refused(judged, host, rule)

    async def _addresses(self, host: str, port: int) -> list[str]:
        resolver = self._ways.resolver()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                found = await resolver.resolve(host, port, socket.AF_UNSPEC)
        finally:
            await resolver.close()
        return list(dict.fromkeys(result["host"] for result in found))


def _refused(judged: Judgement, host: str, rule: network.Rule) -> Judgement:
    return dataclasses.replace(
        judged, verdict=Verdict.REFUSED, rule=rule, problem=str(network.refused(host, rule))
    )
