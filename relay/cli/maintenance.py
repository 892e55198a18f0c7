"""``relay migrate`` and ``relay backup``: the database's upkeep, on the file itself."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import rich_click as click

from relay.cli import files, options, output


@click.command()
@options.config
def migrate(*, config_file: str | None) -> None:
    """Bring the database up to this version, or make it.

    `relay serve` does the same at its start. The file is copied first; stop the daemon before.
    """
    settings = files.load(files.path(config_file))
    files.refuse_strangers(settings, command=files.again("relay migrate", config_file))

    async def run() -> tuple[str, ...]:
        async with files.opened(settings, migrate=True) as store:
            return store.applied

    for label in asyncio.run(run()):
        output.line(f"applied {label}")
    output.line("the database is up to date")


@click.command()
@click.argument("file", type=click.Path())
@options.config
def backup(*, file: str, config_file: str | None) -> None:
    """Copy the database to FILE, beside a running daemon too.

    \b
    relay backup relay-backup.db
    """
    settings = files.load(files.path(config_file))
    command = files.again(f"relay backup {shlex.quote(file)}", config_file)
    files.refuse_strangers(settings, command=command)
    target = Path(file)

    async def run() -> None:
        async with files.opened(settings, migrate=False) as store:
            await store.backup(str(target))

    asyncio.run(run())
    output.line(f"{file}  {target.stat().st_size} bytes")
