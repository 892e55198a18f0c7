"""A process with a pool of workers and nothing else: to be killed, or given an unfriendly environment.

Reads ``{"urls": [...], "limit": 1.0}`` from stdin, sends to all at once, closes, and prints the reasons.
"""

from __future__ import annotations

import asyncio
import json
import sys

from relay.domain import errors
from relay.senders import apprise, apprise_jobs
from tests.senders import channels
from tests.senders.conftest import outgoing


async def main() -> None:
    """Send, close, tell."""
    config = json.load(sys.stdin)
    urls = config["urls"]
    opened = apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",))
    pool = apprise.ApprisePool(opened, seats=len(urls) + 1)

    async def send(url: str) -> str:
        scheme = url.partition("://")[0]
        sender = apprise.AppriseSender("d", url=url, scheme=scheme, pool=pool, timeout=config["limit"])
        try:
            await sender.send(outgoing(channels.BODY))
        except errors.SendError as error:
            return error.reason
        return "delivered"

    reasons = await asyncio.gather(*(send(url) for url in urls))
    await pool.aclose()
    print(json.dumps(reasons), flush=True)


# Unguarded on purpose: workers must not run the main module of their daemon.
asyncio.run(main())
