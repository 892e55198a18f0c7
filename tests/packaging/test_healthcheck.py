"""The health check of the container, run as the container runs it, against servers on loopback."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web


@pytest.fixture
def command(root: Path) -> list[str]:
    """The HEALTHCHECK of the Dockerfile, with this interpreter."""
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", (root / "Dockerfile").read_text("utf-8"), re.M)
    assert found
    program, *arguments = json.loads(found.group(1))
    assert program == "python"
    return [sys.executable, *arguments]


@asynccontextmanager
async def answering(
    status: int, headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """A server whose every answer is `status`; yields its port and the paths it was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


async def check(command: list[str], env: dict[str, str], **extra: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=env | extra, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", ""])
async def test_a_ready_daemon_is_healthy(command: list[str], bare_env: dict[str, str], host: str) -> None:
    async with answering(200) as (port, asked):
        outcome = await check(command, bare_env, RELAY_SERVER__HOST=host, RELAY_SERVER__PORT=str(port))
    assert outcome == (0, "")
    assert asked == ["/readyz"]


async def test_a_proxy_of_the_environment_is_not_asked(command: list[str], bare_env: dict[str, str]) -> None:
    async with answering(500) as (proxy, asked_of_proxy), answering(200) as (port, _):
        address = f"http://127.0.0.1:{proxy}"
        outcome = await check(
            command, bare_env, RELAY_SERVER__PORT=str(port), http_proxy=address, HTTP_PROXY=address
        )
    assert outcome == (0, "")
    assert asked_of_proxy == []


@pytest.mark.parametrize("status", [503, 500, 404, 302])
async def test_any_other_answer_is_unhealthy(
    command: list[str], bare_env: dict[str, str], status: int
) -> None:
    async with answering(status, {"Location": "/livez"}) as (port, asked):
        outcome = await check(command, bare_env, RELAY_SERVER__PORT=str(port))
    assert outcome == (1, f"unhealthy: /readyz answered {status}\n")
    assert asked == ["/readyz"]


async def test_nobody_listening_is_unhealthy(command: list[str], bare_env: dict[str, str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        code, err = await check(command, bare_env, RELAY_SERVER__PORT=str(port))
    assert code == 1
    assert err == f"unhealthy: no answer from 127.0.0.1 port {port}: ConnectionRefusedError\n"


async def test_a_port_that_speaks_something_else_is_unhealthy(
    command: list[str], bare_env: dict[str, str]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code, err = await check(command, bare_env, RELAY_SERVER__PORT=str(port))
    assert code == 1
    assert err.startswith("unhealthy: no answer from")
    assert err.count("\n") == 1


@pytest.mark.parametrize("port", ["http", "-1", "70000", ""])
async def test_a_port_that_is_none_is_named(command: list[str], bare_env: dict[str, str], port: str) -> None:
    outcome = await check(command, bare_env, RELAY_SERVER__PORT=port)
    assert outcome == (1, "unhealthy: RELAY_SERVER__PORT is not a port number\n")
