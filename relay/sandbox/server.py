"""Opens a listening port for the sandbox and says where it is. Owns no rules and no routes."""

from __future__ import annotations

from typing import Final

from aiohttp import web

SHUTDOWN_SECONDS: Final = 0.5
"""Streams last as long as their task; a stop does not wait for them."""


async def serve(app: web.Application, *, host: str = "127.0.0.1", port: int = 0) -> tuple[web.AppRunner, str]:
    """Serve ``app`` and return the runner and the address, ``http://HOST:PORT``.

    Port 0 picks a free one. ``await runner.cleanup()`` stops. Raises ``OSError`` where the port
    cannot be had, with nothing left open. Nothing is logged per request.
    """
    # Compressed bodies are refused, so they must not be unpacked on the way in either.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except BaseException:
        await runner.cleanup()
        raise
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return runner, f"http://{shown}:{bound[1]}"
