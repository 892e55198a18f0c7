"""Tells systemd how it goes: ready, stopping, and the watchdog, fed by the loops' progress only."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping


def notify(state: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Send ``state`` (``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``); nothing without systemd."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        # A leading @ names an abstract socket.
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(state.encode("ascii"))


def reloading() -> str:
    """The state to send before the configuration is read again; ``READY=1`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two signs of life: half of what systemd asks for; ``None`` if it does not."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


class Watchdog:
    """A supervised loop. A daemon whose loops stand still is not fed, and is restarted."""

    name = "watchdog"

    def __init__(self, interval: float, alive: Callable[[], bool]) -> None:
        self.wake = asyncio.Event()
        self._interval = interval
        self._alive = alive

    async def tick(self) -> float | None:
        """One sign of life, if there is life."""
        if self._alive():
            notify("WATCHDOG=1")
        return self._interval
