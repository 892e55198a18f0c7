"""``relay redeliveries``: many deliveries told again, each time as one durable piece of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click

from relay.cli import client, options, output, redelivering
from relay.domain import redelivery as rules


@click.group()
def redeliveries() -> None:
    """Telling many deliveries again: preview, run, pause, cancel."""


@redeliveries.command("create")
@click.option("--all", "whole", is_flag=True, help="All in that state; instead of narrowing.")
@redelivering.selection
@options.as_json
def create(*, whole: bool, as_json: bool, **given: object) -> None:
    """Prepare one: count what is selected and show the first. Nothing is sent yet.

    \b
    relay redeliveries create --destination pipeline --reason http_503
    """
    answer = redelivering.preview(redelivering.selected(given, whole=whole))
    if as_json:
        output.line(answer.text.strip())
        return
    made = answer.json()
    redelivering.show_preview(made)
    output.line(output.clean(made.get("id")))
    output.note(f"nothing is sent yet; run it with: relay redeliveries run {output.clean(made.get('id'))}")


@redeliveries.command("ls")
@click.option("--state", type=click.Choice(list(map(str, rules.State))), help="Only those in this state.")
@options.page
@options.as_json
def ls(*, state: str | None, limit: int | None, cursor: str | None, as_json: bool) -> None:
    """List redeliveries, the newest first."""
    options.show_list(
        client.ask("GET", "/redeliveries", params={"state": state} | options.paging(limit, cursor)),
        "redeliveries",
        headers=("REDELIVERY", "STATE", "DONE", "SKIPPED", "OF", "RATE", "SELECTS", "CREATED"),
        row=_row,
        as_json=as_json,
    )


def _row(one: Mapping[str, Any]) -> Sequence[object]:
    return (
        one.get("id"),
        one.get("state"),
        one.get("done"),
        one.get("skipped"),
        one.get("count"),
        one.get("rate"),
        _selects(one),
        output.moment(one.get("created_at")),
    )


def _selects(one: Mapping[str, Any]) -> str:
    chosen = one.get("filter")
    given = chosen.items() if isinstance(chosen, dict) else ()
    return " ".join(f"{name}={value}" for name, value in given if value is not None)


@redeliveries.command("show")
@click.argument("redelivery")
@options.as_json
def show(*, redelivery: str, as_json: bool) -> None:
    """Show one, and how far it is."""
    answer = client.ask("GET", redelivering.path(redelivery))
    if as_json:
        output.line(answer.text.strip())
        return
    body = answer.json()
    eta = body.get("eta_seconds")
    output.fields(
        {
            "redelivery": body.get("id"),
            "state": body.get("state"),
            "selects": _selects(body),
            "found": body.get("count"),
            "due again": body.get("done"),
            "skipped": body.get("skipped"),
            "rate": f"{output.clean(body.get('rate'))}/s",
            "left": None if eta is None else f"{float(eta):.0f} s",
            "position": output.moment(body.get("position")),
            "by": body.get("created_by"),
            "created": output.moment(body.get("created_at")),
            "changed": output.moment(body.get("changed_at")),
            "finished": output.moment(body.get("finished_at")),
        }
    )


@redeliveries.command("run")
@click.argument("redelivery")
@redelivering.rate
@click.option("--wait", is_flag=True, help="Show how far it is until it ends.")
def run(*, redelivery: str, rate: float | None, wait: bool) -> None:
    """Run one, go on with one that is paused, or change the rate of one that runs."""
    body = redelivering.run(redelivery, rate=rate)
    if wait:
        redelivering.watch(redelivery)
    else:
        output.line(f"{output.clean(redelivery)}  {output.clean(body.get('state'))}")


@redeliveries.command("pause")
@click.argument("redelivery")
def pause(*, redelivery: str) -> None:
    """Pause one where it is; `run` goes on from there. What is due already is still sent."""
    _change(redelivery, rules.Action.PAUSE)


@redeliveries.command("cancel")
@click.argument("redelivery")
def cancel(*, redelivery: str) -> None:
    """End one where it is. What is due already is still sent."""
    _change(redelivery, rules.Action.CANCEL)


def _change(redelivery: str, action: rules.Action) -> None:
    body = client.ask("POST", f"{redelivering.path(redelivery)}/{action}").json()
    output.line(f"{output.clean(redelivery)}  {output.clean(redelivering.standing(body))}")
