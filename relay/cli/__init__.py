"""The command line: a module per noun, and here what they share, ``main``.

The commands are a client of the daemon (``client.py``); ``serve``, ``config``, ``migrate``,
``backup`` and ``keys create --local`` alone touch files. Whatever is heavy (aiohttp, pydantic, the
store) is imported inside the commands that need it, so that ``relay --help`` is there at once. An
expected error is one line on stderr and an exit code (``output.Failed``), never a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import rich_click as click

import relay
from relay.cli import (
    config,
    deliveries,
    demo,
    destinations,
    keys,
    listen,
    maintenance,
    output,
    redeliveries,
    sandbox,
    serve,
    submit,
    tasks,
    watch,
)
from relay.domain import errors


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 it failed, 2 wrong usage or configuration, 3 no relay answers.",
)
@click.version_option(relay.__version__, prog_name="relay", message="%(prog)s %(version)s")
@click.command_panel("Try it", commands=["demo", "sandbox", "listen"])
@click.command_panel("Generate and be told", commands=["submit", "watch"])
@click.command_panel(
    "Look after it", commands=["tasks", "deliveries", "redeliveries", "destinations", "keys"]
)
@click.command_panel("Run it", commands=["serve", "config", "migrate", "backup"])
@click.rich_config(
    help_config={
        "style_commands_table_column_width_ratio": (1, 4),
        "padding_helptext": (0, 1, 0, 1),
        "padding_helptext_first_line": (0, 0, 1, 0),
    }
)
@click.pass_context
def root(context: click.Context) -> None:
    """Watches generation tasks and tells chat, mail or a signed webhook when they end.

    \b
    relay demo                                   see it work
    relay config example > relay.toml            every setting, explained
    relay serve --config relay.toml              run it
    relay submit MODEL -i prompt="A cat" --wait  generate through it

    Commands that ask a running relay find it by RELAY_URL (default http://127.0.0.1:8080) and
    RELAY_API_KEY.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


for command in (
    serve.serve,
    demo.demo,
    sandbox.sandbox,
    submit.submit,
    watch.watch,
    tasks.tasks,
    deliveries.deliveries,
    redeliveries.redeliveries,
    destinations.destinations,
    keys.keys,
    listen.listen,
    config.config,
    maintenance.migrate,
    maintenance.backup,
):
    root.add_command(command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command of ``args`` (default: the process's own) and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no failure
    code = run(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone; the interpreter must not complain about it while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command of ``args`` and answer its exit code, every expected error printed."""
    try:
        result = root.main(args=args, prog_name="relay", standalone_mode=False)
    except click.UsageError as exc:
        output.error(exc.format_message())
        if exc.ctx is not None:
            output.note(f"see {exc.ctx.command_path} --help")
        return exc.exit_code
    except click.ClickException as exc:
        output.error(exc.format_message())
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (errors.ConfigurationError, errors.SchemaTooNew, errors.SchemaChanged) as exc:
        output.error(str(exc))
        return 2
    except errors.RelayError as exc:
        output.error(str(exc))
        return 1
    except UnicodeEncodeError:
        output.error("an argument is not valid text")
        return 2
    return result if isinstance(result, int) else 0
