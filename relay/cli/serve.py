"""``relay serve``: the daemon in the foreground."""

from __future__ import annotations

import functools

import rich_click as click
from click import exceptions

from relay.cli import files, options, output


@click.command()
@options.config
def serve(*, config_file: str | None) -> None:
    """Run the daemon until it is told to stop.

    \b
    relay serve --config relay.toml

    SIGTERM or Ctrl-C lets what is in flight end first; a second one stops at once. Settings come from
    the file, systemd credentials and the environment (RELAY_SERVER__PORT and so on). SIGHUP has
    destinations, routes and operator read again; a file that cannot be used changes nothing.
    """
    settings = files.load(files.path(config_file))
    if not settings.upstreams:
        raise output.Unusable(files.no_upstream(config_file))
    from relay import daemon, logs

    logs.configure(level=settings.logs.level, style=settings.logs.format)
    reread = functools.partial(files.load, files.path(config_file))
    raise exceptions.Exit(daemon.run(settings, reread=reread))
