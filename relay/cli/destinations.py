"""``relay destinations``: whom relay can tell, making and changing them, and whether telling works.

URLs, signing secrets and the values of headers are secrets: they come from a file (``@FILE``), from
stdin (``-``) or from a prompt, never from an argument, which every user of the machine can read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import rich_click as click
from click import exceptions

from relay.cli import client, deliveries, destination_options, kinds, options, output, secret_input
from relay.domain import ids, model

TEST_TIMEOUT: Final = 90.0
"""Seconds for the answer to a test: the daemon waits for the first attempt (mail may take 30 s)."""


@click.group()
def destinations() -> None:
    """Whom relay can tell: list, add, change, test, pause, resume, remove."""


@destinations.command("ls")
@options.as_json
def ls(*, as_json: bool) -> None:
    """List the destinations, by name. Their URLs are secret and not shown."""
    options.show_list(
        client.ask("GET", "/destinations"),
        "destinations",
        headers=("DESTINATION", "STATE", "SERVICE", "ADDRESS", "HEARS", "FROM"),
        row=_row,
        as_json=as_json,
    )


def _row(destination: Mapping[str, Any]) -> Sequence[object]:
    return (
        destination.get("name"),
        destination.get("state"),
        destination.get("service"),
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
    _show(answer.json())


def _show(body: Mapping[str, Any]) -> None:
    fields: dict[str, object] = {
        "destination": body.get("name"),
        "state": body.get("state"),
        "service": body.get("service"),
        "address": body.get("address"),
        "from": body.get("source"),
        "hears": body.get("statuses"),
        "quotes prompt": body.get("prompt"),
        "schedule": ", ".join(output.clean(delay) for delay in body.get("schedule") or ()),
        "timeout": body.get("timeout"),
        "concurrency": body.get("concurrency"),
        "rate": body.get("rate"),
        "age max": body.get("age_max"),
        "retry-after max": body.get("retry_after_max"),
        "headers": body.get("headers"),
        "signatures": body.get("signatures"),
    }
    if body.get("old_until") is not None:
        fields["old secret until"] = output.moment(body["old_until"])
    for name in ("paused_at", "disabled_at", "disabled_reason", "failing_since", "problem"):
        if body.get(name) is not None:
            value = body[name]
            fields[name.replace("_", " ")] = output.moment(value) if name.endswith(("at", "since")) else value
    output.fields(fields)


@destinations.command("add")
@click.argument("name")
@destination_options.options
@click.option("--secret", metavar="@FILE", help="The signing secret of a webhook; made where none is given.")
@options.as_json
def add(*, name: str, secret: str | None, as_json: bool, **wishes: Any) -> None:
    """Add a destination. Its URL is asked for, or read from a file or stdin.

    \b
    relay destinations add renders
    relay destinations add pipeline --url @pipeline.url --status failed --rate 5

    http(s) is a signed webhook; every other URL is Apprise's: slack://, discord://, mailto:// and so on.
    """
    if not ids.is_name(name):
        raise output.Unusable("NAME: a name looks like [a-z][a-z0-9_]{0,62}")
    body = {"name": name, **destination_options.members(wishes)}
    if "url" not in body:
        body["url"] = secret_input.asked("URL")
    if secret is not None:
        body["secret"] = secret_input.read(secret, what="--secret")
    answer = client.ask("POST", "/destinations", body=body)
    if as_json:
        output.line(answer.text.strip())
        return
    made = answer.json()
    output.line(f"{output.clean(name)}  added  {output.clean(made.get('service'))}")
    if made.get("secret") is not None:
        output.line(output.clean(made["secret"]))
        output.note("This is its signing secret. It is not shown again; the receiver verifies with it.")
    output.note(f"see that it works: relay destinations test {output.clean(name)}")


@destinations.command("change")
@click.argument("name")
@destination_options.options
@options.as_json
def change(*, name: str, as_json: bool, **wishes: Any) -> None:
    """Change what is given and leave the rest; `default` puts an option back.

    \b
    relay destinations change pipeline --rate 20 --age-max default
    """
    body = destination_options.members(wishes)
    if not body:
        raise output.Unusable("nothing to change: give at least one option")
    answer = client.ask("PATCH", f"/destinations/{client.quoted(name)}", body=body)
    if as_json:
        output.line(answer.text.strip())
        return
    _show(answer.json())


@destinations.command("test")
@click.argument("name")
@options.as_json
def test(*, name: str, as_json: bool) -> None:
    """Send a test notification, the way a real one goes; exit 0 if it was delivered.

    \b
    relay destinations test renders

    A test that arrives enables a destination again that was disabled. Exit 1 also where it is disabled
    afterwards: its answer may say that it wants no more.
    """
    path = f"/destinations/{client.quoted(name)}"
    answer = client.ask("POST", f"{path}/test", timeout=TEST_TIMEOUT)
    body = answer.json()
    if as_json:
        output.line(answer.text.strip())
    else:
        deliveries.show_one(body)
    delivered = body.get("state") == model.DeliveryState.DELIVERED
    known = client.ask("GET", path).json()
    rests = known.get("state") in ("disabled", "paused")
    if rests:
        _note_rest(known)
    elif not delivered and not as_json:
        output.note(_not_delivered(body))
    if not delivered or known.get("state") == "disabled":
        raise exceptions.Exit(1)


def _not_delivered(test: Mapping[str, Any]) -> str:
    if test.get("state") == model.DeliveryState.DEAD:
        return "not delivered; a test is sent once, so send another when it is mended"
    return f"not delivered yet; follow it with: relay deliveries show {output.clean(test.get('id'))}"


def _note_rest(known: Mapping[str, Any]) -> None:
    """That a destination is told nothing, why, and what ends that."""
    name, reason = output.clean(known.get("name")), known.get("disabled_reason")
    why = f": {output.clean(reason)}" if reason is not None else ""
    output.note(
        f"{name} is {output.clean(known.get('state'))}{why}; what it is owed is held until"
        f" {'a test arrives, or until ' if reason is not None else ''}relay destinations resume {name}"
    )


@destinations.command("pause")
@click.argument("name")
def pause(*, name: str) -> None:
    """Send it nothing until it is resumed; what it is owed is held."""
    client.ask("POST", f"/destinations/{client.quoted(name)}/pause")
    output.line(f"{output.clean(name)}  paused")


@destinations.command("resume")
@click.argument("name")
@click.option(
    "--which",
    type=click.Choice(["all", "newest", "none"]),
    default="all",
    show_default=True,
    help="What is sent of what was held: all of it, the newest of each task, or none.",
)
def resume(*, name: str, which: str) -> None:
    """Send again, whether it was paused or disabled.

    \b
    relay destinations resume renders --which newest
    """
    body = client.ask("POST", f"/destinations/{client.quoted(name)}/resume", body={"which": which}).json()
    output.line(f"{output.clean(name)}  {output.clean(body.get('state'))}")
    output.note(
        f"held deliveries: {output.clean(body.get('released'))} are sent now, "
        f"{output.clean(body.get('superseded'))} superseded, {output.clean(body.get('dropped'))} given up, "
        f"{output.clean(body.get('restored'))} had arrived before"
    )


@destinations.command("rotate-secret")
@click.argument("name")
@click.option("--secret", metavar="@FILE", help="The new secret; made where none is given.")
@click.option(
    "--overlap",
    type=kinds.Number(float, least=0, most=kinds.OVERLAP_MAX),
    metavar="SECONDS",
    help="How long the old one signs too.",
)
@options.as_json
def rotate_secret(*, name: str, secret: str | None, overlap: float | None, as_json: bool) -> None:
    """Sign with a new secret, and with the old one too for a day.

    \b
    relay destinations rotate-secret pipeline --overlap 3600
    """
    body: dict[str, object] = {} if overlap is None else {"overlap": overlap}
    if secret is not None:
        body["secret"] = secret_input.read(secret, what="--secret")
    answer = client.ask("POST", f"/destinations/{client.quoted(name)}/rotate-secret", body=body)
    if as_json:
        output.line(answer.text.strip())
        return
    made = answer.json()
    output.line(output.clean(made.get("secret")))
    output.note(
        "This is the new secret. It is not shown again."
        + (
            f" The old one signs too until {output.moment(made['old_until'])}."
            if made.get("old_until")
            else ""
        )
    )


@destinations.command("public-key")
@click.argument("name")
def public_key(*, name: str) -> None:
    """Print the key that v1a signatures of a destination are verified with."""
    answer = client.ask("GET", f"/destinations/{client.quoted(name)}/public-key")
    output.line(output.clean(answer.json().get("public_key")))


@destinations.command("rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(*, name: str, yes: bool) -> None:
    """Delete a destination. What it is still owed is held until there is one of that name again."""
    if not yes:
        if not sys.stdin.isatty():
            raise output.Unusable("deleting is asked about: add --yes where nobody can answer")
        click.confirm(f"Delete the destination {output.clean(name)}?", abort=True, err=True)
    client.ask("DELETE", f"/destinations/{client.quoted(name)}")
    output.line(f"{output.clean(name)}  deleted")
