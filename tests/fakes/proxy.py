"""An HTTP proxy on loopback that knows a few names and records what it was asked.

    async with proxy.serve({"hooks.example": receiver.port}) as served:
        ... use served.url as network.proxy ...
        assert served.requests == ["CONNECT hooks.example:443"]

It tunnels (``CONNECT``) and forwards (``POST http://…``); names that it does not know get a 403. With
``login`` set, requests without it get a 407.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """See the module. ``requests`` holds method and target of each request, in order."""

    names: Mapping[str, int]
    login: str | None = None
    port: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What goes into ``network.proxy``."""
        login = f"{self.login}@" if self.login else ""
        return f"http://{login}127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which is one request."""
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        self.requests.append(f"{method} {target}")
        if self.login is not None and not self._knows(head):
            writer.write(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        url = urllib.parse.urlsplit(f"//{target}" if method == "CONNECT" else target)
        port = self.names.get(url.hostname or "")
        if port is None:
            writer.write(b"HTTP/1.1 403 Not There\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(back):
            await self._go_on(method, url, head, (reader, writer), (onward, back))

    async def _go_on(
        self,
        method: str,
        url: urllib.parse.SplitResult,
        head: str,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        (reader, writer), (onward, back) = client, server
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Go On\r\n\r\n")
        else:
            lines = [line for line in head.split("\r\n") if not line.lower().startswith("proxy-")]
            path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
            lines[0] = f"{method} {path} HTTP/1.1"
            back.write("\r\n".join(lines).encode("latin-1"))
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, back))
            group.create_task(_pump(onward, writer))

    def _knows(self, head: str) -> bool:
        assert self.login is not None
        expected = base64.b64encode(self.login.encode()).decode()
        return f"proxy-authorization: basic {expected}".lower() in head.lower()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def serve(names: Mapping[str, int], *, login: str | None = None) -> AsyncIterator[Proxy]:
    """A proxy on 127.0.0.1 until the block ends. ``names`` gives the loopback port behind each name."""
    proxy = Proxy(names, login)
    open_ones: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)
        await proxy.handle(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.sleep(0)  # one that was just accepted begins, so that it can close itself
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await server.wait_closed()
