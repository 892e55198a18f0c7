"""``relay sandbox``: the stand-in upstream as a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import rich_click as click

from relay.cli import output, signals

PORT = 8090
"""Beside the daemon's 8080."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A pretend API key it knows; may be repeated. Default: mv_test_sandbox.",
)
@click.option("--speed", type=float, default=1.0, show_default=True, help="100 is a hundred times faster.")
@click.option(
    "--events",
    type=click.Choice(["json", "sse", "ndjson", "absent"]),
    default="json",
    show_default=True,
    help="What the events endpoint speaks.",
)
@click.option("--seed", type=int, help="Repeat ids and durations; without it every start differs.")
def sandbox(
    *, host: str, port: int, keys: Sequence[str], speed: float, events: str, seed: int | None
) -> None:
    """Run a stand-in for the MindVideo API, free and fast.

    A prompt with [fail] or [cancel] in it ends so.

    \b
    relay sandbox --speed 20
    """
    from relay.sandbox import app as sandbox_app

    app = sandbox_app.create_app(
        keys=tuple(keys) or (sandbox_app.DEFAULT_KEY,),
        speed=speed,
        events=events,  # type: ignore[arg-type]  # one of the choices above
        seed=seed,
    )

    async def run() -> None:
        from relay.sandbox import server

        try:
            runner, url = await server.serve(app, host=host, port=port)
        except OSError as exc:
            raise output.cannot_listen(exc, host=host, port=port) from None
        try:
            output.line(f"relay sandbox listening on {url}")
            await signals.stopped()
        finally:
            await runner.cleanup()

    asyncio.run(run())
