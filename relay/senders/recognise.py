"""Asks Apprise what it makes of URLs, from a daemon that never imports it.

One short-lived process answers for all URLs at once (0.5 s); they go through its stdin, never
through arguments, which every user of the machine can read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Final

import yarl

from relay.domain import errors
from relay.senders import apprise_jobs, network, schemes

TIMEOUT: Final = 30.0
"""Seconds for the answer, on a machine that is very busy."""

_KEPT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TZ")


def askable(url: str) -> bool:
    """Whether an http(s) URL might be a chat service's own: those live at names, not at addresses.

    >>> askable("https://hooks.slack.com/services/x"), askable("http://127.0.0.1:8080/")
    (True, False)
    """
    try:
        parsed = yarl.URL(url)
        host = parsed.raw_host or ""
    except (ValueError, UnicodeError):
        return False
    if parsed.scheme not in ("http", "https") or network.literal(host) is not None:
        return False
    host = host.rstrip(".")
    return "." in host and not host.endswith(".localhost")


async def kinds(urls: Mapping[str, str]) -> dict[str, apprise_jobs.Finding]:
    """What relay makes of each URL, by name: the one border that all of them pass, wherever they come from.

    A finding without ``scheme`` and ``problem`` is that of a webhook. Nothing is dialled. Raises as
    ``examine``.
    """
    found = {name: apprise_jobs.Finding() for name in urls}
    asked = {}
    for name, url in urls.items():
        scheme = url.partition("://")[0].lower() if "://" in url else None
        if scheme is None:
            problem: str | None = "a URL starts with a scheme such as https:// or slack://"
        elif scheme in ("http", "https"):
            problem = None
            if askable(url):
                asked[name] = url
        elif (problem := schemes.problem(scheme)) is None:
            asked[name] = url
        if problem is not None:
            found[name] = apprise_jobs.Finding(scheme=scheme, problem=problem)
    return found | await examine(asked)


async def recognise(urls: Mapping[str, str]) -> dict[str, str | None]:
    """By name, the scheme of the chat service that each http(s) URL belongs to, or ``None``."""
    found = await examine({name: url for name, url in urls.items() if askable(url)})
    return {name: found[name].scheme if name in found else None for name in urls}


async def check(url: str) -> apprise_jobs.Finding:
    """What Apprise makes of one URL."""
    return (await examine({"url": url}))["url"]


async def examine(urls: Mapping[str, str]) -> dict[str, apprise_jobs.Finding]:
    """What Apprise makes of each URL, by name. Nothing is dialled.

    Raises ``errors.ConfigurationError`` when the process that is asked does not answer.
    """
    if not urls:
        return {}
    asked = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay.senders.apprise_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            answer, _ = await asked.communicate(json.dumps(dict(urls)).encode())
        findings = json.loads(answer)
        return {name: apprise_jobs.Finding(**findings[name]) for name in urls}
    except (TimeoutError, ValueError, KeyError, TypeError):
        raise errors.ConfigurationError(
            "Apprise could not be asked about the destinations; is it installed for this Python?"
        ) from None
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
