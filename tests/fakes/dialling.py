"""Ways out that record what would be dialled and go nowhere but to loopback.

    net = dialling.Net(tmp_path)
    async with harness.running(..., ways=net.ways): ...
    assert net.dialled() == []

Names are answered from ``spellings.ANSWERS``; others do not exist, but for this machine's own. What
is recorded had been allowed: the recorders stand behind relay's own judgement, in the daemon (the
socket factory) as in the chat workers (an audit hook that runs after the guard's).
"""

from __future__ import annotations

import errno
import functools
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp.abc

from relay.senders import apprise_jobs, dialling, network
from tests.fakes import spellings


def answer(host: str, port: int, *, seen: Path) -> list[tuple[Any, ...]]:
    """As ``socket.getaddrinfo`` answers. ``seen`` remembers who was asked for before."""
    spelled = network.spelled(host)
    if spelled is not None:
        addresses = [str(spelled)]
    elif host.rstrip(".").lower() == spellings.REBINDING:
        with seen.open("a+") as log:
            addresses = ["127.0.0.1"] if log.tell() else ["8.8.8.8"]
            log.write("asked\n")
    else:
        addresses = spellings.ANSWERS.get(host.rstrip(".").lower(), [])
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in addresses
    ]


class _Resolver(aiohttp.abc.AbstractResolver):
    def __init__(self, seen: Path) -> None:
        self._seen = seen

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            {
                "hostname": host,
                "host": info[4][0],
                "port": port,
                "family": info[0],
                "proto": info[2],
                "flags": socket.AI_NUMERICHOST,
            }
            for info in answer(host, port, seen=self._seen)
        ]

    async def close(self) -> None:
        pass


class Net:
    """See the module. ``directory`` keeps what several processes note."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "dialled"
        self._seen = directory / "asked"

    @property
    def ways(self) -> dialling.Dialling:
        """What relay is given."""
        return dialling.Dialling(
            resolver=lambda: _Resolver(self._seen),
            open_socket=self._open,
            prepare=functools.partial(prepare, log=self._log, seen=self._seen),
        )

    def dialled(self) -> list[str]:
        """Every address that would have been dialled, in order."""
        return self._log.read_text().split() if self._log.exists() else []

    def _open(self, info: dialling.AddressInfo) -> socket.socket:
        record(self._log, str(info[4][0]))
        return dialling.open_socket(info)


def record(log: Path, address: str) -> None:
    """Note it, and raise unless it is on this machine."""
    with log.open("a") as file:
        file.write(address + "\n")
    if address != "127.0.0.1":
        raise OSError(errno.ENETUNREACH, "nothing but loopback is dialled in tests")


def prepare(surroundings: apprise_jobs.Surroundings, *, log: Path, seen: Path) -> None:
    """The product's worker, on top of the resolver above and with the recorder behind it."""

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return answer(str(host), int(port), seen=seen)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            record(log, str(args[1][0]))

    socket.getaddrinfo = getaddrinfo
    apprise_jobs.prepare(surroundings)
    sys.addaudithook(audit)
