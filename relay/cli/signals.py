"""Waiting for somebody to stop a command that runs until then."""

from __future__ import annotations

import asyncio
import signal


async def stopped() -> None:
    """Return on SIGTERM or Ctrl-C. From then on both have their usual effect again."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
