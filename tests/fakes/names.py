"""A ``getaddrinfo`` that asks nobody: names that hang, names of this machine, and no others.

    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)

``hang….example.test`` does not answer before ``answers`` is set, then that there is no answer; every other
name in ``example.test`` is 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

DOMAIN = ".example.test"

_system = socket.getaddrinfo


class Names:
    """See the module. ``asked`` are the names that were asked for, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        """As ``socket.getaddrinfo``."""
        if not isinstance(host, str) or not host.endswith(DOMAIN):
            numeric = host in (None, "localhost") or host.replace(".", "").isdigit() or ":" in host
            if not numeric:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return _system(host, port, *args, **options)
        self.asked.append(host)
        if host.startswith("hang"):
            self.answers.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return _system("127.0.0.1", port, *args, **options)

    async def until_asked(self, *hosts: str) -> None:
        """Return once each of ``hosts`` was asked for."""
        async with asyncio.timeout(30):
            while not set(hosts) <= set(self.asked):
                await asyncio.sleep(0.01)
