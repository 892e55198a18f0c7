"""Sends signed webhooks: one POST of the stored bytes, signed anew for each attempt.

Owns the aiohttp session that all webhook destinations share. Redirects are never followed, proxies
and credentials never taken from the environment, and every address is judged when it is dialled
(``network.py``). The status line decides; of the body at most ``ANSWER_BYTES_MAX`` is read, and none
of a private peer's is kept.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import math
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import aiohttp.abc
import yarl

import relay
from relay import lookups
from relay.domain import errors, model
from relay.senders import apprise_jobs, base, dialling, faults, network, signing, verdicts
from relay.senders import headers as own_headers

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

TIMEOUT: Final = 15.0
"""Seconds until the status line, connecting included (Standard Webhooks advises 15–30 s)."""

ANSWER_TIMEOUT: Final = 1.0
"""Seconds for the body, once the status has decided."""

ANSWER_BYTES_MAX: Final = 1024

DETAIL_LENGTH_MAX: Final = 300
"""Characters of an answer that are told: an attempt's detail has 500."""

CONCURRENCY: Final = 8
"""Sends in flight to one destination."""

CONNECTIONS_PER_HOST_MAX: Final = 32
"""Connections to one host, however many destinations live there. It is relay's own limit: who waits in vain
for one is not to blame."""

PROXY_GATEWAY_STATUSES: Final = frozenset({502, 503, 504})
"""What proxies answer to CONNECT when the peer cannot be reached; anything else is their own refusal."""

CAPACITY: Final = base.Capacity(name="webhook", seats=256, seats_hanging=128)

_HEADERS: Final = {
    "content-type": "application/json",
    "user-agent": f"relay/{relay.__version__}",
    "accept-encoding": "identity",
}
"""What every request carries, whoever is told."""


@dataclass(slots=True)
class _Progress:
    """How far one request got, which exceptions do not tell.

    ``dialled``: it opened a connection of its own rather than taking a kept-alive one. ``sent``: it
    had a connection and began to write. (aiohttp's tracing knows both, for a sixth of a request's CPU.)
    """

    dialled: bool = False
    sent: bool = False


_PROGRESS: Final[contextvars.ContextVar[_Progress]] = contextvars.ContextVar("progress")
"""Of the request that this task, or one that dials for it, is making."""


class _Body(aiohttp.BytesPayload):
    """A body that notes when aiohttp begins to write the request."""

    def __init__(self, body: bytes, progress: _Progress) -> None:
        super().__init__(body, content_type="application/json")
        self._progress = progress

    async def write_with_length(
        self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None
    ) -> None:
        """See ``aiohttp.Payload``."""
        self._progress.sent = True
        await super().write_with_length(writer, content_length)


class JudgingResolver(aiohttp.abc.AbstractResolver):
    """Resolves names and refuses those with an address that may not be dialled.

    Remembers which names ever were private, because their answers are not kept: a connection lives
    longer than what its name resolves to.
    """

    def __init__(self, policy: network.AddressPolicy, inner: aiohttp.abc.AbstractResolver) -> None:
        self._inner = inner
        self._policy = policy
        self._public = network.AddressPolicy()
        self._private: set[str] = set()
        self._resolving: collections.Counter[str] = collections.Counter()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """As aiohttp asks for it. Raises ``errors.AddressRefused``."""
        self._resolving[host] += 1
        try:
            results = await self._inner.resolve(host, port, family)
        finally:
            self._resolving[host] -= 1
            self._resolving += collections.Counter()  # drops what is at zero
        addresses = [result["host"] for result in results]
        rule = self._policy.refusal_of_any(addresses)
        if rule is not None:
            raise network.refused(host, rule)
        if self._public.refusal_of_any(addresses) is not None:
            self._private.add(host.rstrip("."))
        return results

    def resolving(self, host: str) -> bool:
        """Whether the address of ``host`` is being asked for right now."""
        return host in self._resolving

    def hung(self, host: str) -> bool:
        """Whether looking ``host`` up takes, or took, as long as anybody would wait."""
        return isinstance(self._inner, lookups.Resolver) and self._inner.hung(host)

    def private(self, host: str) -> bool:
        """Whether ``host`` is an address, or was last resolved to one, that is not public."""
        spelled = network.literal(host)
        if spelled is not None:
            return self._public.refusal(spelled) is not None
        return host.rstrip(".") in self._private

    async def close(self) -> None:
        """Let no lookup be waited for."""
        await self._inner.close()


class WebhookClient:
    """The session that webhook senders share. Make it inside a running loop; close it with ``aclose``."""

    def __init__(
        self,
        policy: network.AddressPolicy,
        *,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        connections_per_host_max: int = CONNECTIONS_PER_HOST_MAX,
        ways: dialling.Dialling = dialling.SYSTEM,
    ) -> None:
        self.policy = policy
        self.proxy = proxy
        self._open_socket = ways.open_socket
        names = ways.resolver()
        self.resolver = JudgingResolver(policy, names)
        if proxy is None:
            connector = aiohttp.TCPConnector(
                resolver=self.resolver,
                # Covers what no resolver sees: addresses spelled out in the URL.
                socket_factory=self._judged_socket,
                limit=0,  # seats are the dispatcher's business
                limit_per_host=connections_per_host_max,
                ssl=tls or True,
            )
        else:
            # Every connection goes to the operator's own proxy, which may well be private.
            connector = aiohttp.TCPConnector(
                resolver=names, socket_factory=self._socket, limit=0, ssl=tls or True
            )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
        )

    def judge_spelled(self, host: str) -> None:
        """Refuse an address that is spelled out, which a proxy would dial for us."""
        if (rule := self.policy.refusal_unresolved(host)) is not None:
            raise network.refused(host, rule)

    def _judged_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        address = str(addr_info[4][0])
        rule = self.policy.refusal(address)
        if rule is not None:
            raise network.refused(address, rule)
        return self._socket(addr_info)

    def _socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket to dial with, noted for the request that needs it."""
        if (progress := _PROGRESS.get(None)) is not None:
            progress.dialled = True
        return self._open_socket(addr_info)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        await self.session.close()
        await self.resolver.close()


class WebhookSender:
    """Tells one webhook.

    ``keys`` are those of ``v1``, newest first, and sign until their ``ends`` (epoch seconds; ``None`` or
    no ``ends`` for good), ``signing_key`` is that of ``v1a``; ``url`` is a checked
    http(s) URL, ``headers`` are checked ones (``headers.parse``) that go along with every request.
    """

    def __init__(
        self,
        name: str,
        *,
        url: yarl.URL,
        keys: Sequence[bytes],
        client: WebhookClient,
        ends: Sequence[float | None] = (),
        signing_key: ed25519.Ed25519PrivateKey | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        timeout: float = TIMEOUT,
        concurrency: int = CONCURRENCY,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._url = url
        self._keys = tuple(keys)
        self._ends = tuple(math.inf if end is None else end for end in ends) or (math.inf,) * len(self._keys)
        self._next_end = min(self._ends, default=math.inf)
        self._signing_key = signing_key
        self._own_headers = dict(headers)
        self._client = client
        self._timeout = timeout
        self._concurrency = concurrency
        self._now = now
        self._hidden = _longest_first(*_secrets_in(url), *own_headers.secrets_in(headers))

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._name

    @property
    def format(self) -> model.Format:
        """Standard Webhooks JSON."""
        return model.Format.WEBHOOK

    @property
    def address(self) -> str:
        """Scheme and host."""
        return str(self._url.origin())

    @property
    def time_limit(self) -> float:
        """Seconds: until the status line, and for the rest of the answer."""
        return self._timeout + ANSWER_TIMEOUT

    @property
    def concurrency(self) -> int:
        """Sends in flight at once."""
        return self._concurrency

    @property
    def capacity(self) -> base.Capacity:
        """Sockets are plenty; what is shared is the daemon's one loop."""
        return CAPACITY

    async def send(self, outgoing: base.Outgoing) -> base.Accepted:
        """POST it once; a kept-alive connection that turns out to be stale is replaced at once."""
        if self._client.proxy is not None:
            self._client.judge_spelled(self._url.raw_host or "")
        headers = self._headers(outgoing)
        progress = _Progress()
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    response = await self._post(outgoing.body, headers, progress)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if progress.dialled:
                        raise
                    progress = _Progress()
                    response = await self._post(outgoing.body, headers, progress)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._failure(error, progress) from None
        excerpt = await self._excerpt(response)
        return self._judge(response, excerpt)

    def _headers(self, outgoing: base.Outgoing) -> dict[str, str]:
        now = self._now()
        timestamp = int(now)
        if now >= self._next_end:
            self._drop_ended(now)
        signature = signing.sign(self._keys, outgoing.delivery_id, timestamp, outgoing.body)
        if self._signing_key is not None:
            entry = signing.sign_asymmetric(self._signing_key, outgoing.delivery_id, timestamp, outgoing.body)
            signature = f"{signature} {entry}".lstrip()
        return {
            **self._own_headers,
            "webhook-id": outgoing.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        }

    def _drop_ended(self, now: float) -> None:
        """A former secret signs no longer than was promised when it was rotated."""
        left = [(key, end) for key, end in zip(self._keys, self._ends, strict=True) if end > now]
        self._keys, self._ends = tuple(key for key, _ in left), tuple(end for _, end in left)
        self._next_end = min(self._ends, default=math.inf)

    async def _post(
        self, body: bytes, headers: dict[str, str], progress: _Progress
    ) -> aiohttp.ClientResponse:
        _PROGRESS.set(progress)
        return await self._client.session.post(
            self._url,
            data=_Body(body, progress),
            headers=headers,
            allow_redirects=False,
            proxy=self._client.proxy,
        )

    async def _excerpt(self, response: aiohttp.ClientResponse) -> str | None:
        """The beginning of the body, or ``None`` where it is private, empty or not text.

        Never raises: an answer that is too long, too slow or broken does not undo its status. One
        that ended within bounds leaves the connection to be used again.
        """
        if response.content.at_eof():
            return None  # its connection has been given back
        taken = bytearray()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while len(taken) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                    taken += await response.content.read(ANSWER_BYTES_MAX + 1 - len(taken))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            taken.clear()
        finally:
            if not response.content.at_eof():
                response.close()
        # As the resolver was asked for it: a name outside ASCII in IDNA's form.
        host = self._url.raw_host or ""
        if not taken or self._client.proxy is not None or self._client.resolver.private(host):
            return None
        return self._cleaned(bytes(taken[:ANSWER_BYTES_MAX]), whole=len(taken) <= ANSWER_BYTES_MAX)

    def _cleaned(self, answer: bytes, *, whole: bool = True) -> str | None:
        text = answer.decode("utf-8", "replace")
        for secret in self._hidden:
            text = text.replace(secret, "…")
        if not whole and self._hidden:
            # The cut may have gone through a secret, which is then not recognised.
            text = text[: -len(self._hidden[0])]
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text[:DETAIL_LENGTH_MAX] or None

    def _judge(self, response: aiohttp.ClientResponse, excerpt: str | None) -> base.Accepted:
        headers = response.headers
        order = verdicts.control(headers.get("webhook-delivery"))
        wait = verdicts.retry_after(headers.get("Retry-After"), date=headers.get("Date"), now=self._now())
        failure = verdicts.webhook(
            response.status,
            who=self._name,
            order=order,
            location=headers.get("Location"),
            retry_after=wait,
            excerpt=excerpt,
        )
        if failure is not None:
            raise failure
        disable = order is not None and verdicts.disables(response.status, order)
        return base.Accepted(status_code=response.status, detail=excerpt, disable=disable)

    def _failure(self, error: Exception, progress: _Progress) -> errors.SendError:
        """The decision for a request that got no answer. Exceptions of aiohttp may show the URL."""
        if isinstance(error, aiohttp.ClientHttpProxyError):
            # The proxy works, and says that the peer does not.
            failure = verdicts.fault(apprise_jobs.Fault.PROXY_FAILED, self._name)
            failure.charged = error.status in PROXY_GATEWAY_STATUSES
            return failure
        failure = verdicts.fault(self._fault(error, progress), self._name)
        if failure.reason == apprise_jobs.Fault.DNS_UNAVAILABLE:
            # It may have said at once that it is down, or be busy with the names of others.
            asked = self._url if self._client.proxy is None else yarl.URL(self._client.proxy)
            failure.hung = self._client.resolver.hung(asked.raw_host or "")
        return failure

    def _fault(self, error: Exception, progress: _Progress) -> apprise_jobs.Fault:
        fault = apprise_jobs.Fault
        if isinstance(error, TimeoutError):
            return self._waited_for(progress)
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            return fault.TLS_FAILED
        ours = faults.own(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error)
        if ours is not None:
            return ours
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            # With a proxy, its name is the only one that is resolved here.
            return fault.DNS_FAILED if self._client.proxy is None else fault.PROXY_FAILED
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return fault.PROXY_FAILED
        if isinstance(error, aiohttp.ClientConnectorError):
            return fault.CONNECT_FAILED
        if isinstance(error, (aiohttp.ClientResponseError, ValueError)):
            return fault.BAD_ANSWER
        return fault.CONNECTION_LOST

    def _waited_for(self, progress: _Progress) -> apprise_jobs.Fault:
        """What a request that ran out of time was waiting for."""
        if progress.sent:
            return apprise_jobs.Fault.TIMEOUT
        if progress.dialled:
            return apprise_jobs.Fault.CONNECT_TIMEOUT
        # Connections to a proxy are not counted: there it can only have been the proxy's own name.
        proxied = self._client.proxy is not None
        if proxied or self._client.resolver.resolving(self._url.raw_host or ""):
            return apprise_jobs.Fault.DNS_UNAVAILABLE
        return apprise_jobs.Fault.NO_CONNECTION


def parse_url(text: str) -> yarl.URL:
    """An http(s) URL that can be posted to. Raises ``ValueError`` with one line that shows none of it."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("the URL holds blanks or control characters")
    try:
        url = yarl.URL(text)
        host, port = url.raw_host, url.port
    except (ValueError, UnicodeError):
        raise network.Unreadable(
            f"the URL cannot be read (rule {network.Rule.UNREADABLE}): check its host and port"
        ) from None
    if url.scheme not in ("http", "https"):
        raise ValueError("the URL of a webhook starts with https:// or http://")
    if not host or port == 0:
        raise ValueError("the URL names no host, or port 0")
    if not network.readable(host):
        raise network.Unreadable(
            f"the URL names a host that programs read differently (rule {network.Rule.UNREADABLE}); "
            "write a plain name or address"
        )
    spelled = network.literal(host)
    if spelled is not None:
        # 2130706433 and 0x7f.1 are addresses too; aiohttp takes them in their usual form only.
        url = url.with_host(str(spelled))
    return url.with_fragment(None)


def _secrets_in(url: yarl.URL) -> tuple[str, ...]:
    """Parts of the URL that a peer might echo."""
    parts = {url.raw_path_qs, url.path_qs, url.raw_query_string, url.query_string, url.password or ""}
    parts.update(urllib.parse.unquote(part) for part in re.split(r"[/?&=]", url.raw_path_qs))
    return tuple(part for part in parts if len(part) >= 8)


def _longest_first(*secrets: str) -> tuple[str, ...]:
    return tuple(sorted(set(secrets), key=len, reverse=True))
