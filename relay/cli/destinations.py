"""``relay destinations``: whom relay can tell, and whether telling them works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import rich_click as click
from click import exceptions

from relay.cli import client, deliveries, options, output
from relay.domain import model

TEST_TIMEOUT: Final = 90.0
"""Seconds for the answer to a test: the daemon waits for the first attempt (mail may take 30 s)."""


@click.group()
def destinations() -> None:
    """Whom relay can tell: list, look, send a test."""


@destinations.command("ls")
@options.as_json
def ls(*, as_json: bool) -> None:
    """List the destinations, by name. Their URLs are secret and not shown."""
    options.show_list(
        client.ask("GET", "/destinations"),
        "destinations",
        headers=("DESTINATION", "KIND", "ADDRESS", "HEARS", "FROM"),
        row=_row,
        as_json=as_json,
    )


def _row(destination: Mapping[str, Any]) -> Sequence[object]:
    return (
        destination.get("name"),
        destination.get("format"),
        destination.get("address"),
        destination.get("statuses"),
        destination.get("source"),
    )


@destinations.command("show")
@click.argument("name")
@options.as_json
def show(*, name: str, as_json: bool) -> None:
    """Show one destination."""
    answer = client.ask("GET", f"/destinations/{client.quoted(name)}")
    if as_json:
        output.line(answer.text.strip())
        return
    body = answer.json()
    output.fields(
        {
            "destination": body.get("name"),
            "kind": body.get("format"),
            "address": body.get("address"),
            "hears": body.get("statuses"),
            "quotes prompt": body.get("prompt"),
            "from": body.get("source"),
        }
    )


@destinations.command("test")
@click.argument("name")
@options.as_json
def test(*, name: str, as_json: bool) -> None:
    """Send a test notification, the way a real one goes; exit 0 if it was delivered.

    \b
    relay destinations test renders
    """
    answer = client.ask("POST", f"/destinations/{client.quoted(name)}/test", timeout=TEST_TIMEOUT)
    body = answer.json()
    if as_json:
        output.line(answer.text.strip())
    else:
        deliveries.show_one(body)
    if body.get("state") != model.DeliveryState.DELIVERED:
        if not as_json:
            output.note(
                f"not delivered yet; follow it with: relay deliveries show {output.clean(body.get('id'))}"
            )
        raise exceptions.Exit(1)
