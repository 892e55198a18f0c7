"""``relay watch``: register tasks that exist upstream, so that their ends are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import rich_click as click

from relay.cli import client, output, waiting


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

    Without --notify the routes of the configuration decide who is told. Watching a task again adds
    destinations and never removes one.

    \b
    relay watch task_demo_model --notify renders --wait
    """
    references = [task if upstream is None else f"{upstream}:{task}" for task in tasks]
    for reference in references:
        client.task_path(reference)  # all are looked at before the first is registered
    asyncio.run(_watch(references, notify=notify, wait=wait, as_json=as_json))


async def _watch(references: Sequence[str], *, notify: Sequence[str], wait: bool, as_json: bool) -> None:
    async with client.connected() as daemon:
        for reference in references:
            body = {"notify": list(notify)} if notify else {}
            answer = await daemon.ask("PUT", client.task_path(reference), body=body)
            if as_json and not wait:
                output.line(answer.text.strip())
            elif not wait:
                verb = "watching" if answer.status == 201 else "already watched"
                output.line(f"{output.clean(reference)}  {verb}  {waiting.standing(answer.json())}")
        if not wait:
            return
        with waiting.progress() as progress:
            ended = await waiting.until_ended(daemon, references, progress=progress)
    waiting.report(ended, as_json=as_json)
