"""The daemon's HTTP API, as the commands use it.

Reads ``RELAY_URL`` and ``RELAY_API_KEY``; a key is never an argument, and never followed to
another host: redirects and proxies are not used. Time and size of every answer are bounded.
Whatever goes wrong becomes one ``output.Failed``. Read ``Daemon.ask`` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import io
import json
import os
import re
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relay.cli import output
from relay.domain import ids

if TYPE_CHECKING:
    import aiohttp

URL: Final = "http://127.0.0.1:8080"
"""Where a daemon with default settings listens."""

TIMEOUT: Final = 30.0
"""Seconds for an answer of the daemon itself."""

CONNECT_TIMEOUT: Final = 5.0

ANSWER_MAX: Final = 64 * 1024 * 1024
"""Bytes of an answer that are read: more than any page of a list."""

INSTANCE: Final = "urn:relay:request:"
"""What the ``instance`` of relay's problems starts with; an upstream's problems have another, or none."""

_URL: Final = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,500}")


class Refused(output.Failed):
    """The daemon answered with an error. ``status`` is HTTP's."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success. ``text`` is the body as it came."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> dict[str, Any]:
        """The body as an object, money exact. Raises ``output.Failed`` where it is none."""
        try:
            body = json.loads(self.text, parse_float=decimal.Decimal)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise output.Failed("the answer is not relay's: is RELAY_URL the address of a relay?")
        return body


class Daemon:
    """One relay, asked with one key."""

    def __init__(self, *, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._key = key
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Send one request to ``path`` (below ``/api/v1``, its parts quoted by ``quoted``).

        ``timeout`` is in seconds, for all of it. Raises ``output.Unreachable`` when no answer came
        and ``Refused`` for every answer that is not 2xx.
        """
        import aiohttp
        import yarl

        query = "?" + urllib.parse.urlencode(params) if params else ""
        try:
            async with self._session.request(
                method,
                yarl.URL(f"{self.url}/api/v1{path}{query}", encoded=True),
                data=None if body is None else io.BytesIO(json.dumps(body).encode()),
                headers={
                    "Authorization": f"Bearer {self._key}",
                    **({} if body is None else {"Content-Type": "application/json"}),
                    **(headers or {}),
                },
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT),
                allow_redirects=False,
            ) as response:
                text = await _read(response)
                answer = Answer(status=response.status, headers=dict(response.headers), text=text)
        except TimeoutError:
            raise output.Unreachable(f"{self.url} did not answer in time: look at the daemon's log") from None
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise output.Unreachable(
                f"no relay answers at {self.url} ({_reason(exc)}): "
                "start one with `relay serve`, or set RELAY_URL"
            ) from None
        if not 200 <= answer.status < 300:
            raise _refusal(answer, self.url)
        return answer


@contextlib.asynccontextmanager
async def connected(environ: Mapping[str, str] | None = None) -> AsyncIterator[Daemon]:
    """The daemon that the environment names. Raises ``output.Unusable`` where it names none."""
    environ = os.environ if environ is None else environ
    url = environ.get("RELAY_URL", "").strip().rstrip("/") or URL
    if not _URL.fullmatch(url):
        raise output.Unusable("RELAY_URL: give the address of a relay, such as http://127.0.0.1:8080")
    key = environ.get("RELAY_API_KEY", "").strip()
    if not key:
        raise output.Unusable(
            "no API key: set RELAY_API_KEY. One is made beside the daemon with "
            "`relay keys create NAME --role admin --local`"
        )
    if not _KEY.fullmatch(key):
        raise output.Unusable("RELAY_API_KEY: not an API key; keys have no spaces and no special characters")
    import aiohttp

    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Daemon(url=url, key=key, session=session)


def ask(
    method: str,
    path: str,
    *,
    body: object = None,
    params: Mapping[str, str | None] | None = None,
    timeout: float = TIMEOUT,
    about: str | None = None,
) -> Answer:
    """``Daemon.ask`` for commands that need one answer; parameters that are ``None`` are left out.

    ``about`` is put before the words of a refusal: which of several things is meant.
    """

    async def once() -> Answer:
        async with connected() as daemon:
            given = {name: value for name, value in (params or {}).items() if value is not None}
            try:
                return await daemon.ask(method, path, body=body, params=given, timeout=timeout)
            except Refused as exc:
                if about is None:
                    raise
                raise Refused(f"{output.clean(about)}: {exc.message}", status=exc.status) from None

    return asyncio.run(once())


def quoted(part: str) -> str:
    """A name or id as one part of a path."""
    return urllib.parse.quote(part, safe=":~")


def task_path(reference: str) -> str:
    """``/tasks/{task}``. Raises ``output.Unusable`` for what cannot be a task's id."""
    if not (ids.is_task_id(reference) or ids.is_task_id(reference.partition(":")[2])):
        raise output.Unusable(
            f"{reference[:80]!r} is no task id: 1 to 200 characters of A-Z a-z 0-9 . _ : ~ -, or UPSTREAM:ID"
        )
    return f"/tasks/{quoted(reference)}"


async def _read(response: aiohttp.ClientResponse) -> str:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > ANSWER_MAX:
            raise output.Failed(f"the answer is over {ANSWER_MAX} bytes: ask for less with --limit")
        chunks.append(chunk)
    return b"".join(chunks).decode("utf-8", "replace")


def _reason(exc: Exception) -> str:
    """Why no answer came, in a few words."""
    import aiohttp

    if isinstance(exc, aiohttp.ClientConnectorError):
        number = exc.os_error.errno
        return os.strerror(number) if number is not None and number > 0 else "no such host"
    return output.clean(str(exc) or type(exc).__name__)[:200]


def _refusal(answer: Answer, url: str) -> Refused:
    """The problem+json body in one line."""
    try:
        problem = json.loads(answer.text)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or not str(problem.get("instance")).startswith(INSTANCE):
        message = f"{url} answered {answer.status} and not as relay does: check RELAY_URL"
        return Refused(message, status=answer.status)
    found = [item for item in problem.get("errors") or () if isinstance(item, dict)]
    parts = [_located(item) for item in found[:5]] or [_located(problem)]
    if len(found) > 5:
        parts.append(f"and {len(found) - 5} more")
    message = "; ".join(parts)
    if answer.status == 401:
        message += " (RELAY_API_KEY)"
    return Refused(output.clean(message), status=answer.status)


def _located(item: Mapping[str, Any]) -> str:
    text = str(item.get("detail") or item.get("title") or "refused")
    where = item.get("pointer") or item.get("parameter")
    return f"{where}: {text}" if isinstance(where, str) and where else text
