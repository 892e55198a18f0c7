"""Looks names up, each owner in threads of its own: a name whose lookup hangs holds up nothing else.

The C library's ``getaddrinfo`` cannot be cancelled and may take a minute. In the loop's own threads
(asyncio's default executor has a few more than there are processors, uvloop two) a handful of such
names stops whatever else is looked up or handed to a thread. Here

- a name is looked up once at a time, however many wait for it, on whichever port;
- names that hang hold at most half of the threads: a name that hung comes back with every retry, and
  must not keep those waiting that answer within milliseconds. Which names hang is not known before
  they did, so it takes as many *new* ones at once as there are threads to make the others wait;
- a lookup that nobody waits for any more is left alone. Its thread is a daemon, so that the process
  ends without it: those of ``concurrent.futures`` are joined at exit.

A thread lives for one lookup, so that an idle pool costs nothing and there is none to close; starting
one is nothing beside a lookup, and aiohttp keeps answers for 10 s.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import socket
import threading
import time
from typing import Any, Final, cast

import aiohttp

HUNG_AFTER: Final = 2.0
"""Seconds after which a lookup hangs. Resolvers answer sooner; one that is lost is asked again after 5 s."""

HUNG_KEPT: Final = 1024
"""Names that are remembered for having hung; the newest."""


class Resolver(aiohttp.ThreadedResolver):
    """aiohttp's own, but for where it waits: at most ``threads`` at once, named after ``owner``.

    Make it and use it in one loop.
    """

    def __init__(self, owner: str, *, threads: int) -> None:
        self._names = _Names(owner, threads)
        # Of the loop it uses the two methods that ask for names and addresses.
        super().__init__(cast("asyncio.AbstractEventLoop", self._names))

    def hung(self, host: str) -> bool:
        """Whether ``host`` holds a thread right now, or was a long time in one when last looked up.

        Not one that only waits for a thread: that is the doing of others.
        """
        return self._names.running(host) or self._names.hung(host)

    async def close(self) -> None:
        """Stop waiting. Lookups that hang are left to themselves."""
        self._names.forget()


class _Lookup:
    """One call of ``getaddrinfo``; without a port, which changes nothing but a number in the answer."""

    def __init__(self, host: str, wanted: tuple[int, int, int, int], *, slow: bool) -> None:
        self.host = host
        self.wanted = wanted
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[list[tuple[Any, ...]]] = self.loop.create_future()
        self.started = 0.0
        self._slow = slow

    @property
    def age(self) -> float:
        """Seconds in its thread."""
        return time.monotonic() - self.started

    @property
    def hangs(self) -> bool:
        """Whether it counts among those that may hold half of the threads."""
        return self._slow or self.age >= HUNG_AFTER


class _Names:
    """Of an event loop the part that ``aiohttp.ThreadedResolver`` uses. All but ``_ask`` runs in the loop."""

    def __init__(self, owner: str, threads: int) -> None:
        self._owner = owner
        self._threads = threads
        self._threads_hung = max(1, threads // 2)
        self._lookups: dict[tuple[str, tuple[int, int, int, int]], _Lookup] = {}
        self._waiting: collections.deque[_Lookup] = collections.deque()
        self._waiting_hung: collections.deque[_Lookup] = collections.deque()
        self._running: set[_Lookup] = set()
        self._hung: dict[str, None] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """As a loop's. Raises ``OSError`` where no thread can be started."""
        wanted = (family, type, proto, flags)
        lookup = self._lookups.get((host, wanted))
        if lookup is None:
            slow = host in self._hung
            lookup = self._lookups[host, wanted] = _Lookup(host, wanted, slow=slow)
            (self._waiting_hung if slow else self._waiting).append(lookup)
            self._start()
        found = await asyncio.shield(lookup.answer)
        return [(*info[:4], (info[4][0], port, *info[4][2:])) for info in found]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """As a loop's; aiohttp asks for numbers, which nobody is asked for."""
        return socket.getnameinfo(sockaddr, flags | socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)

    def running(self, host: str) -> bool:
        """Whether it holds a thread."""
        return any(lookup.host == host for lookup in self._running)

    def hung(self, host: str) -> bool:
        """Whether its last lookup took long."""
        return host in self._hung

    def forget(self) -> None:
        """Let nobody wait any longer."""
        self._waiting.clear()
        self._waiting_hung.clear()
        for lookup in self._lookups.values():
            lookup.answer.cancel()
        self._lookups.clear()

    def _start(self) -> None:
        """Start what may be started, names that are not known to hang first."""
        while self._waiting and len(self._running) < self._threads:
            self._run(self._waiting.popleft())
        while (
            self._waiting_hung
            and len(self._running) < self._threads
            and sum(lookup.hangs for lookup in self._running) < self._threads_hung
        ):
            self._run(self._waiting_hung.popleft())

    def _run(self, lookup: _Lookup) -> None:
        lookup.started = time.monotonic()
        self._running.add(lookup)
        thread = threading.Thread(target=self._ask, args=(lookup,), name=f"lookup-{self._owner}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._settle(lookup, OSError(errno.ENOMEM, "no thread can be started"))

    def _ask(self, lookup: _Lookup) -> None:
        """What happens in the thread."""
        outcome: list[tuple[Any, ...]] | Exception
        try:
            outcome = list(socket.getaddrinfo(lookup.host, 0, *lookup.wanted))
        except Exception as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            lookup.loop.call_soon_threadsafe(self._ended, lookup, outcome)

    def _ended(self, lookup: _Lookup, outcome: list[tuple[Any, ...]] | Exception) -> None:
        self._hung.pop(lookup.host, None)
        if lookup.age >= HUNG_AFTER:
            self._hung[lookup.host] = None
            if len(self._hung) > HUNG_KEPT:
                del self._hung[next(iter(self._hung))]
        self._settle(lookup, outcome)
        self._start()

    def _settle(self, lookup: _Lookup, outcome: list[tuple[Any, ...]] | Exception) -> None:
        self._running.discard(lookup)
        if lookup.answer.done():
            return  # forgotten
        del self._lookups[lookup.host, lookup.wanted]
        if isinstance(outcome, Exception):
            lookup.answer.set_exception(outcome)
        else:
            lookup.answer.set_result(outcome)
