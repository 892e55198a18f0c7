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
@click.option(
    "--disabled-key",
    "disabled_keys",
    multiple=True,
    metavar="KEY",
    help="A key it knows and refuses (403); may be repeated.",
)
@click.option("--speed", type=float, default=1.0, show_default=True, help="100 is a hundred times faster.")
@click.option(
    "--events",
    type=click.Choice(["json", "sse", "ndjson", "absent"]),
    default="json",
    show_default=True,
    help="What the events endpoint speaks.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[:RATE]",
    help="Let this go wrong for every task, or for a share of them (429:0.1); may be repeated.",
)
@click.option("--seed", type=int, help="Repeat ids, durations and faults; without it every start differs.")
def sandbox(
    *,
    host: str,
    port: int,
    keys: Sequence[str],
    disabled_keys: Sequence[str],
    speed: float,
    events: str,
    faults: Sequence[str],
    seed: int | None,
) -> None:
    """Run a stand-in for the MindVideo API, free and fast.

    \b
    relay sandbox --speed 20

    A word in the prompt asks for a fault of that one task, --fault for all:
    [fail] [cancel] [moderated] [stall] [429] [5xx] [drop-reply] [late-output]
    [no-output] [expired-url] [duplicate-events] [out-of-order] [reused-ids]
    """
    from relay.sandbox import app as sandbox_app

    app = sandbox_app.create_app(
        keys=tuple(keys) or (sandbox_app.DEFAULT_KEY,),
        disabled_keys=tuple(disabled_keys),
        speed=speed,
        events=events,  # type: ignore[arg-type]  # one of the choices above
        faults=tuple(faults),
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
