"""``relay watch``: register tasks that exist upstream, so that their ends are told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import rich_click as click

from relay.cli import client, output, waiting

MANY: Final = 10
"""Tasks from which they are registered together; fewer are registered one by one, which says more."""

CHUNK: Final = 1000
"""Tasks in one request, at most."""


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--upstream", metavar="NAME", help="Which upstream the tasks are of; default: the default one.")
@click.option("--notify", multiple=True, metavar="NAME", help="A destination to tell; may be repeated.")
@click.option("--wait", is_flag=True, help="Wait for their ends; exit 0 if all succeeded, 1 if not.")
@click.option("--json", "as_json", is_flag=True, help="Print the task bodies as JSON, one a line.")
def watch(
    *, tasks: Sequence[str], upstream: str | None, notify: Sequence[str], wait: bool, as_json: bool
) -> None:
    """Watch tasks that were submitted elsewhere.

    \b
    relay watch task_demo_model --notify renders --wait

    Without --notify the routes of the configuration decide who is told. Watching a task again adds
    destinations and never removes one.
    """
    references = [task if upstream is None else f"{upstream}:{task}" for task in tasks]
    for reference in references:
        client.task_path(reference)  # all are looked at before the first is registered
    asyncio.run(_watch(references, upstream=upstream, notify=notify, wait=wait, as_json=as_json))


async def _watch(
    references: Sequence[str], *, upstream: str | None, notify: Sequence[str], wait: bool, as_json: bool
) -> None:
    async with client.connected() as daemon:
        if upstream is not None:
            # Ids may have colons: behind the name of no upstream, all of it would be taken for one.
            await daemon.ask("GET", "/tasks", params={"upstream": upstream, "limit": "1"})
        wishes = {"notify": list(notify)} if notify else {}
        many = len(references) >= MANY and (wait or not as_json)
        if many:
            await _register_many(daemon, references, wishes, quiet=wait)
        for reference in () if many else references:
            answer = await daemon.ask("PUT", client.task_path(reference), body=wishes)
            if as_json and not wait:
                output.line(answer.text.strip())
            elif not wait:
                _report(reference, waiting.standing(answer.json()), created=answer.status == 201)
        if not wait:
            return
        with waiting.progress() as progress:
            ended = await waiting.until_ended(daemon, references, progress=progress)
    waiting.report(ended, as_json=as_json)


async def _register_many(
    daemon: client.Daemon, references: Sequence[str], wishes: Mapping[str, Any], *, quiet: bool
) -> None:
    """Register in few requests. Raises ``output.Failed`` in the end if any was refused."""
    refused = 0
    for start in range(0, len(references), CHUNK):
        chunk = references[start : start + CHUNK]
        tasks = [{"task": reference, **wishes} for reference in chunk]
        answer = await daemon.ask("POST", "/registrations", body={"tasks": tasks})
        for result in answer.json()["registrations"]:
            if result["result"] == "refused":
                refused += 1
                output.error(f"{output.clean(result['task'])}: {output.clean(result['error']['detail'])}")
            elif not quiet:
                standing = waiting.standing({"status": result["status"], "relay": result})
                _report(result["task"], standing, created=result["result"] == "created")
    if refused:
        raise output.Failed(f"{refused} of {len(references)} tasks cannot be watched; the others are")


def _report(reference: str, standing: str, *, created: bool) -> None:
    verb = "watching" if created else "already watched"
    output.line(f"{output.clean(reference)}  {verb}  {standing}")
