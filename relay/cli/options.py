"""Options and output that the listing commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import rich_click as click

from relay.cli import client, kinds, output

Command = TypeVar("Command", bound=Callable[..., Any])


def as_json(command: Command) -> Command:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the API's answer as it is.")(command)


def page(command: Command) -> Command:
    """``--limit`` and ``--cursor``."""
    limit = click.option(
        "--limit",
        type=kinds.Number(int, least=1, most=kinds.LIMIT_MAX),
        metavar="N",
        help=f"At most so many, {kinds.LIMIT_MAX} at once.",
    )
    cursor = click.option("--cursor", metavar="CURSOR", help="Continue behind a page: its next cursor.")
    return limit(cursor(command))


def created(command: Command) -> Command:
    """``--since`` and ``--until``."""
    since = click.option(
        "--since",
        type=kinds.Instant(),
        metavar="TIME",
        help="Only those created then or later, such as 2026-11-23T01:02:03Z.",
    )
    until = click.option("--until", type=kinds.Instant(), metavar="TIME", help="Only those created before.")
    return since(until(command))


def creation(since: str | None, until: str | None) -> dict[str, str | None]:
    """The query parameters of ``created``."""
    return {"created_after": since, "created_before": until}


def paging(limit: int | None, cursor: str | None) -> dict[str, str | None]:
    """The query parameters of ``page``."""
    return {"limit": None if limit is None else str(limit), "cursor": cursor}


def config(command: Command) -> Command:
    """``--config FILE``. Unreadable files are the settings' business, which say it in one line."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(),
        metavar="FILE",
        help="The configuration file; default: RELAY_CONFIG, or none.",
    )(command)


def show_list(
    answer: client.Answer,
    resource: str,
    *,
    headers: Sequence[str],
    row: Callable[[Mapping[str, Any]], Sequence[object]],
    as_json: bool,
    pages: bool = True,
) -> None:
    """Print ``{resource: […], "next_cursor": …}`` as JSON or as a table.

    ``pages`` says that a cursor means there is more (with events it is always there).
    """
    if as_json:
        output.line(answer.text.strip())
        return
    body = answer.json()
    items = body.get(resource)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise output.Failed("the answer is not relay's: is RELAY_URL the address of a relay?")
    output.table(headers, [row(item) for item in items], empty=f"no {resource}")
    if pages and body.get("next_cursor"):
        output.note(f"there are more: --cursor {output.clean(body['next_cursor'])}")
