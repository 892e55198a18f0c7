"""``relay tasks``: what the daemon watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click

from relay.cli import client, options, output, waiting
from relay.domain import model, wording


@click.group()
def tasks() -> None:
    """The tasks that relay watches: list, look, stop."""


@tasks.command("ls")
@click.option("--status", type=click.Choice(list(map(str, model.Status))), help="Only those in this status.")
@click.option(
    "--verdict", type=click.Choice(list(map(str, model.Verdict))), help="Only those relay concludes this of."
)
@click.option(
    "--model", "slug", metavar="MODEL", help="Only those of this model; `veo3-*` for all that begin so."
)
@click.option("--upstream", metavar="NAME", help="Only those of this upstream.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those registered with this member of metadata; may be given several times.",
)
@click.option("--text", metavar="TEXT", help="Only those with this in their id, request id, model or prompt.")
@options.created
@options.page
@options.as_json
def ls(
    *,
    status: str | None,
    verdict: str | None,
    slug: str | None,
    upstream: str | None,
    metadata: Sequence[str],
    text: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List tasks, the newest first.

    \b
    relay tasks ls --verdict running
    relay tasks ls --metadata order=4711 --since 2026-11-01T00:00:00Z
    """
    params = {"status": status, "verdict": verdict, "model": slug, "upstream": upstream, "text": text}
    params |= _members(metadata) | options.creation(since, until) | options.paging(limit, cursor)
    answer = client.ask("GET", "/tasks", params=params)
    options.show_list(
        answer,
        "tasks",
        headers=("TASK", "MODEL", "STATUS", "VERDICT", "COST", "CREATED"),
        row=_row,
        as_json=as_json,
    )


def _members(metadata: Sequence[str]) -> dict[str, str | None]:
    """The query parameters of ``--metadata``. Raises ``output.Unusable``."""
    given: dict[str, str | None] = {}
    for pair in metadata:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise output.Unusable(f"--metadata {output.clean(pair)}: give KEY=VALUE")
        given[f"metadata.{name}"] = value
    return given


def _row(task: Mapping[str, Any]) -> Sequence[object]:
    own = task.get("relay") or {}
    return (
        f"{own.get('upstream')}:{task.get('task_id')}",
        own.get("model"),
        task.get("status"),
        own.get("verdict"),
        waiting.cost(task),
        output.moment(own.get("created_at")),
    )


@tasks.command("show")
@click.argument("task")
@options.as_json
def show(*, task: str, as_json: bool) -> None:
    """Show one task, with who registered it and what it gave."""
    answer = client.ask("GET", client.task_path(task))
    if as_json:
        output.line(answer.text.strip())
        return
    body = answer.json()
    own = body.get("relay") or {}
    shown: dict[str, object] = {
        "task": f"{own.get('upstream')}:{body.get('task_id')}",
        "request": body.get("request_id"),
        "model": own.get("model"),
        "status": body.get("status"),
        "verdict": own.get("verdict"),
        "cost": waiting.cost(body),
    }
    links = list(wording.output_links(body.get("output")))
    shown |= {"output" if i == 0 else f"output {i + 1}": link for i, link in enumerate(links)}
    if body.get("error") is not None:
        shown["error"] = wording.error_text(body["error"])
    for name in ("created_at", "finished_at", "last_polled_at", "next_poll_at"):
        # Polls are known of running tasks only: elsewhere their absence would read as "never".
        if own.get(name) is not None:
            shown[name.removesuffix("_at").replace("_", " ")] = output.moment(own[name])
    shown["events"] = own.get("events_seen")
    for i, registration in enumerate(own.get("registrations") or ()):
        told = output.clean(registration.get("notify")) if registration.get("notify") else "whom routes name"
        shown["tells" if i == 0 else f"tells {i + 1}"] = f"{told} (for {registration.get('key')})"
    output.fields(shown)


@tasks.command("events")
@click.argument("task")
@click.option("--cursor", metavar="CURSOR", help="Continue behind a page: its next cursor.")
@options.as_json
def events(*, task: str, cursor: str | None, as_json: bool) -> None:
    """List what happened to a task, in order."""
    answer = client.ask("GET", f"{client.task_path(task)}/events", params={"cursor": cursor})
    options.show_list(
        answer,
        "events",
        headers=("EVENT", "TYPE", "STATUS", "AT"),
        row=lambda event: (
            event.get("id"),
            event.get("type"),
            event.get("status"),
            output.moment(event.get("timestamp")),
        ),
        as_json=as_json,
        pages=False,
    )


@tasks.command("stop")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def stop(*, tasks: Sequence[str]) -> None:
    """Drop your registration of tasks: you are told no more.

    The task itself goes on upstream. relay stops asking about it once nobody is registered.
    """
    paths = [client.task_path(task) for task in tasks]
    for task, path in zip(tasks, paths, strict=True):
        client.ask("DELETE", path, about=task)
        output.line(f"{output.clean(task)}  no longer watched for this key")
