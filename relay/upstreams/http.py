"""One bounded request to an upstream, and what its failures mean. Read ``mindvideo.py`` next.

Owns the connection pool, the credential's header and the limits: every request ends within its
timeout, every body is read piece by piece up to ``body_max`` bytes after decompression.

It must never follow a redirect (the next host would get the key), use a proxy or credentials from
the environment, keep cookies, or put the key, a query or a foreign exception's text (which can
hold both) into an error: those are raised ``from None``.
"""

from __future__ import annotations

import email.utils
import functools
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Final

import aiohttp
import yarl
from multidict import CIMultiDictProxy

import relay
from relay import lookups
from relay.domain import errors
from relay.upstreams import decoding

RETRY_AFTER_MIN: Final = 1.0
RETRY_AFTER_MAX: Final = 3600.0
"""Seconds. A peer that asks for less means "soon"; one that asks for more is asked hourly anyway."""

PROBLEM_MAX: Final = 64 * 1024
"""Bytes of an error body worth decoding."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS; a host that takes longer is down."""

LOOKUPS: Final = 2
"""Names that one upstream has looked up at once; it has one, or that of the proxy."""

_NOT_NOW: Final = {408: "timeout", 425: "too_early", 429: "rate_limited"}

StreamReader = Callable[[aiohttp.ClientResponse], Awaitable[object]]


@dataclass(slots=True)  # not frozen: freezing costs a microsecond on every poll
class Reply:
    """An answer of any status, read to its end.

    ``media_type`` is the content type without parameters in lower case, ``""`` if none was given;
    ``streamed`` what a ``StreamReader`` made of the body, or ``None``.
    """

    status: int
    headers: CIMultiDictProxy[str]
    media_type: str
    body: bytes
    streamed: object = None


@functools.lru_cache(maxsize=256)
def media_type(header: str) -> str:
    """``Application/JSON; charset=utf-8`` → ``application/json``."""
    return header.partition(";")[0].strip().lower()


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for, between the limits; ``None`` for nonsense or none.

    A date is taken relative to the reply's own ``Date``, so that two clocks that differ do not
    matter; to ``now`` (epoch seconds) only where that is missing.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        seconds = float(value[:9]) if len(value) <= 9 else RETRY_AFTER_MAX
    else:
        until = _http_date(value)
        if until is None:
            return None
        sent = _http_date(headers.get("Date", ""))
        seconds = until - (now if sent is None else sent)
    return min(max(seconds, RETRY_AFTER_MIN), RETRY_AFTER_MAX)


def _http_date(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text[:64])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def base_url(text: str, *, setting: str) -> str:
    """The root that task URLs are built on, ending in ``/api/v1``.

    Raises ``errors.ConfigurationError`` naming ``setting``, never the value.
    """
    try:
        url = yarl.URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host)
        plain = not (url.raw_query_string or url.raw_fragment or url.user or url.password)
    except ValueError:
        usable = plain = False
    if not usable:
        raise errors.ConfigurationError(
            f"{setting}: must be an http or https URL, as https://api.example.com"
        )
    if not plain:
        raise errors.ConfigurationError(f"{setting}: must not hold credentials, a query or a fragment")
    root = str(url).rstrip("/")
    return root if root.endswith("/api/v1") else f"{root}/api/v1"


class Client:
    """The requests of one upstream with one credential. ``open`` before the first, ``aclose`` at the end."""

    def __init__(
        self,
        *,
        name: str,
        api_key: str,
        accept: str,
        timeout: float,
        body_max: int,
        connections: int,
        ca_file: Path | None,
        proxy: str | None,
        now: Callable[[], float],
    ) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise errors.ConfigurationError(
                f"upstreams.{name}.api_key: must be the key's visible ASCII characters, nothing else"
            )
        self.name = name
        self._api_key = api_key
        self._accept = accept
        self._timeout = timeout
        self._body_max = body_max
        self._connections = connections
        self._ca_file = ca_file
        self._proxy = proxy
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._resolver: lookups.Resolver | None = None

    def __repr__(self) -> str:
        return f"<Client of upstream {self.name}>"

    async def open(self) -> None:
        """Make the connection pool; connects nowhere.

        Raises ``errors.ConfigurationError`` for a CA file that cannot be read.
        """
        if self._session is not None:
            return
        context = ssl.create_default_context()
        if self._ca_file is not None:
            try:
                context.load_verify_locations(cafile=self._ca_file)
            except (OSError, ssl.SSLError):
                raise errors.ConfigurationError(
                    f"network.ca_file: {self._ca_file} is not a readable file of PEM certificates"
                ) from None
        # Its own, so that neither receivers nor another upstream can keep this one's name waiting.
        self._resolver = lookups.Resolver(self.name, threads=LOOKUPS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=context, resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": self._accept,
                "Authorization": f"Bearer {self._api_key}",
                # Compression would delay a stream and buys little on bodies of a few hundred bytes.
                "Accept-Encoding": "identity",
                "User-Agent": f"relay/{relay.__version__}",
            },
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT),
            trust_env=False,
            proxy=self._proxy,
        )

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._resolver is not None:
            await self._resolver.close()

    async def get(
        self,
        url: yarl.URL,
        *,
        headers: Mapping[str, str] | None = None,
        readers: Mapping[str, StreamReader] | None = None,
    ) -> Reply:
        """Ask once. A 200 of a media type in ``readers`` is left to that reader.

        Raises ``errors.UpstreamTransient`` where there is no complete answer within the limits.
        """
        if self._session is None:
            raise RuntimeError("open the upstream first")
        response: aiohttp.ClientResponse | None = None
        try:
            # Not ``async with``: a body read to its end has given its connection back already.
            response = await self._session.get(url, headers=headers, allow_redirects=False)
            kind = media_type(response.headers.get("Content-Type", ""))
            if readers is not None and kind in readers and response.status == 200:
                streamed = await readers[kind](response)
                response.close()  # a stream that goes on is cut; one that ended is no loss
                return Reply(200, response.headers, kind, b"", streamed)
            body = await (response.read() if self._is_short(response) else self._read(response))
            return Reply(response.status, response.headers, kind, body)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, aiohttp.ClientError | OSError):
                raise self._unanswered(error) from None
            raise

    async def post(self, url: yarl.URL, *, body: bytes, headers: Mapping[str, str], timeout: float) -> Reply:
        """Send ``body`` once, never again by itself. Raises as ``get`` does."""
        if self._session is None:
            raise RuntimeError("open the upstream first")
        limit = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=limit
            ) as response:
                kind = media_type(response.headers.get("Content-Type", ""))
                return Reply(response.status, response.headers, kind, await self._read(response))
        except (aiohttp.ClientError, OSError) as error:
            raise self._unanswered(error) from None

    def _is_short(self, response: aiohttp.ClientResponse) -> bool:
        """Whether aiohttp itself reads no more than is allowed: nothing of a 304, else what was declared."""
        if response.status == 304:
            return True
        declared = response.content_length
        return (
            declared is not None and declared <= self._body_max and "Content-Encoding" not in response.headers
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._body_max:
                response.close()
                raise errors.UpstreamTransient(
                    f"{self.name}: the answer is larger than {self._body_max} bytes",
                    reason="body_too_large",
                    status_code=response.status,
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _unanswered(self, error: Exception) -> errors.UpstreamTransient:
        """The error for a request without a complete answer, without foreign text: it may hold the URL."""
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ServerFingerprintMismatch):
            reason, text = "tls", "no trusted TLS connection"
        elif isinstance(error, TimeoutError):
            reason, text = "timeout", "no complete answer in time"
        elif isinstance(error, aiohttp.ClientPayloadError):
            reason, text = "truncated", "the answer broke off or cannot be decompressed"
        elif isinstance(error, aiohttp.ClientConnectorError):
            reason, text = "unreachable", "cannot be reached"
        elif isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            reason, text = "disconnected", "the connection was closed without an answer"
        else:
            reason, text = "protocol", f"the answer is not proper HTTP ({type(error).__name__})"
        return errors.UpstreamTransient(f"{self.name}: {text}", reason=reason)

    def unreadable(self, reply: Reply, why: str) -> errors.UpstreamTransient:
        """The error for a success whose body says nothing relay understands."""
        return errors.UpstreamTransient(
            f"{self.name}: the body of a {reply.status} is unreadable: {why}",
            reason="unreadable_body",
            status_code=reply.status,
            retry_after=self.retry_after(reply),
        )

    def retry_after(self, reply: Reply) -> float | None:
        """Seconds the reply asks to wait, or ``None``."""
        return retry_after(reply.headers, now=self._now())

    def unexpected(self, reply: Reply) -> errors.UpstreamTransient:
        """The error for a status that makes no sense here; it may after a deployment of theirs."""
        return errors.UpstreamTransient(
            f"{self.name}: answered {reply.status}, which means nothing here",
            reason="unexpected_status",
            status_code=reply.status,
            retry_after=self.retry_after(reply),
            problem=self.problem(reply),
        )

    def passing(self, reply: Reply) -> errors.UpstreamTransient | errors.UpstreamUnauthorized | None:
        """The error of a status that says nothing about the request itself, or ``None`` for others.

        Those are 401 and 403, and what passes: 3xx, 408, 425, 429 and 5xx.
        """
        status = reply.status
        wait = self.retry_after(reply)
        if status in (401, 403):
            return errors.UpstreamUnauthorized(
                f"{self.name}: refused the API key ({status}): check upstreams.{self.name}.api_key",
                reason="unauthorized",
                status_code=status,
                retry_after=wait,
                problem=self.problem(reply),
            )
        if 300 <= status < 400 and status != 304:
            reason = "redirect"
            text = f"redirects ({status}), which is never followed: check upstreams.{self.name}.base_url"
        elif status >= 500:
            reason, text = "server_error", f"answered {status}"
        elif status in _NOT_NOW:
            reason, text = _NOT_NOW[status], f"answered {status}"
        else:
            return None
        return errors.UpstreamTransient(
            f"{self.name}: {text}", reason=reason, status_code=status, retry_after=wait
        )

    def problem(self, reply: Reply) -> object:
        """The JSON of an error body, cleaned, with the key blotted out; ``None`` where it is none."""
        if len(reply.body) > PROBLEM_MAX:
            return None
        try:
            return decoding.clean(decoding.decode(reply.body.replace(self._api_key.encode(), b"***")))
        except decoding.Unreadable:
            return None
