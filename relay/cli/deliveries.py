"""``relay deliveries``: what was told to whom, what is still owed, and telling it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click
from click import exceptions

from relay.cli import client, kinds, options, output, redelivering
from relay.domain import model


@click.group()
def deliveries() -> None:
    """What was told to whom: list, look, redeliver."""


@deliveries.command("ls")
@click.option(
    "--state", type=click.Choice(list(map(str, model.DeliveryState))), help="Only those in this state."
)
@click.option("--destination", metavar="NAME", help="Only those to this destination.")
@click.option("--task", type=kinds.Task(), metavar="TASK", help="Only those about this task.")
@click.option("--type", "kind", metavar="TYPE", help="Only those of this type, `task.failed` and so on.")
@click.option("--reason", metavar="REASON", help="Only those whose last attempt failed for this reason.")
@options.created
@options.page
@options.as_json
def ls(
    *,
    state: str | None,
    destination: str | None,
    task: str | None,
    kind: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List deliveries, the newest first.

    \b
    relay deliveries ls --state dead
    """
    params = {"state": state, "destination": destination, "task": task, "type": kind, "reason": reason}
    params |= options.creation(since, until) | options.paging(limit, cursor)
    answer = client.ask("GET", "/deliveries", params=params)
    options.show_list(
        answer,
        "deliveries",
        headers=("DELIVERY", "TYPE", "TASK", "DESTINATION", "STATE", "ATTEMPTS", "REASON", "CREATED"),
        row=_row,
        as_json=as_json,
    )


def _row(delivery: Mapping[str, Any]) -> Sequence[object]:
    return (
        delivery.get("id"),
        delivery.get("type"),
        delivery.get("task_id"),
        delivery.get("destination"),
        delivery.get("state"),
        delivery.get("attempts_made"),
        delivery.get("reason"),
        output.moment(delivery.get("created_at")),
    )


@deliveries.command("show")
@click.argument("delivery")
@options.as_json
def show(*, delivery: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    answer = client.ask("GET", f"/deliveries/{client.quoted(delivery)}")
    if as_json:
        output.line(answer.text.strip())
        return
    show_one(answer.json())


def show_one(body: Mapping[str, Any]) -> None:
    """A delivery and its attempts, for people."""
    output.fields(
        {
            "delivery": body.get("id"),
            "type": body.get("type"),
            "task": body.get("task_id"),
            "destination": body.get("destination"),
            "state": body.get("state"),
            "reason": body.get("reason"),
            "next attempt": output.moment(body.get("next_attempt_at")),
            "created": output.moment(body.get("created_at")),
            "delivered": output.moment(body.get("delivered_at")),
        }
    )
    attempts = body.get("attempts") or []
    if attempts:
        output.line()
        output.table(
            ("ATTEMPT", "STARTED", "TOOK", "OUTCOME", "REASON", "STATUS", "DETAIL"),
            [_attempt(attempt) for attempt in attempts],
            empty="no attempts",
        )


def _attempt(attempt: Mapping[str, Any]) -> Sequence[object]:
    duration = attempt.get("duration_ms")
    return (
        attempt.get("number"),
        output.moment(attempt.get("started_at")),
        None if duration is None else f"{float(duration):.0f} ms",
        attempt.get("outcome"),
        attempt.get("reason"),
        attempt.get("status_code"),
        attempt.get("detail"),
    )


@deliveries.command("redeliver")
@click.argument("deliveries", nargs=-1, metavar="[DELIVERY...]")
@click.option("--all", "whole", is_flag=True, help="All dead ones, or those that the options below select.")
@redelivering.selection
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
def redeliver(*, deliveries: Sequence[str], whole: bool, yes: bool, **given: object) -> None:
    """Tell it again, whatever became of it: due now, with a fresh budget of attempts.

    \b
    relay deliveries redeliver msg_…
    relay deliveries redeliver --all --destination pipeline --rate 20

    With --all the deliveries are counted and shown first. The daemon does the work: Ctrl-C leaves
    it running.
    """
    if whole and deliveries:
        raise output.Unusable("give deliveries, or --all with options that select them, not both")
    if not whole and (yes or any(value is not None for value in given.values())):
        raise output.Unusable("the options that select deliveries belong to --all")
    if not whole and not deliveries:
        raise output.Unusable("give deliveries, or --all")
    if whole:
        _redeliver_all(redelivering.selected(given, whole=True), yes=yes)
        return
    for delivery in deliveries:
        path = f"/deliveries/{client.quoted(delivery)}/redeliver"
        body = client.ask("POST", path, about=delivery).json()
        held = body.get("state") == model.DeliveryState.HELD
        why = f"  {output.clean(body.get('reason'))}" if held else ""
        output.line(f"{output.clean(delivery)}  {output.clean(body.get('state'))}{why}")


def _redeliver_all(body: Mapping[str, object], *, yes: bool) -> None:
    """Show what is selected, ask, run it and show how far it is."""
    if not yes and not sys.stdin.isatty():
        raise output.Unusable(
            "nobody can be asked here: give --yes, or look first with `relay redeliveries create`"
        )
    made = redelivering.preview(body).json()
    name = str(made.get("id"))
    redelivering.show_preview(made)
    if not made.get("count"):
        client.ask("POST", f"{redelivering.path(name)}/cancel")
        return
    try:
        agreed = yes or click.confirm("Tell them again?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        client.ask("POST", f"{redelivering.path(name)}/cancel")
        output.note("nothing was sent")
        raise exceptions.Exit(1)
    redelivering.run(name, rate=None)
    redelivering.watch(name)
