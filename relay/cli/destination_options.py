"""The options that describe a destination, for adding and for changing one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import rich_click as click

from relay.cli import kinds, output, secret_input
from relay.domain import model

Command = TypeVar("Command", bound=Callable[..., Any])

_STATUSES: Final = tuple(map(str, model.Change))


_SECONDS: Final = kinds.Number(float, least=kinds.SECONDS_LEAST, most=kinds.SECONDS_MAX, resettable=True)
_RATE: Final = kinds.Number(float, least=0.001, most=kinds.PER_SECOND_MAX, resettable=True)
_CONCURRENCY: Final = kinds.Number(int, least=1, most=kinds.CONCURRENCY_MAX, resettable=True)


def options(command: Command) -> Command:
    """What a destination may be given: its URL and how it is told."""
    listed = (
        click.option("--url", metavar="@FILE", help="Where its URL is: @FILE, or - for stdin."),
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([*_STATUSES, kinds.DEFAULT]),
            help="What it hears; may be repeated.",
        ),
        click.option("--prompt/--no-prompt", default=None, help="Whether messages quote the prompt."),
        click.option(
            "--schedule",
            type=kinds.Delays(),
            metavar="0,5,300",
            help="Seconds before each attempt, from the one before.",
        ),
        click.option("--timeout", type=_SECONDS, metavar="SECONDS", help="For one attempt."),
        click.option("--concurrency", type=_CONCURRENCY, metavar="N", help="Sends at the same time."),
        click.option("--rate", type=_RATE, metavar="N", help="Deliveries per second."),
        click.option(
            "--age-max",
            type=_SECONDS,
            metavar="SECONDS",
            help="After which what is still owed is given up.",
        ),
        click.option(
            "--retry-after-max",
            type=_SECONDS,
            metavar="SECONDS",
            help="For which its Retry-After is heeded at most.",
        ),
        click.option(
            "--headers", metavar="@FILE", help="More headers of a webhook: a JSON object of names and texts."
        ),
        click.option("--signing-key", metavar="@FILE", help="The whsk_ key of v1a signatures."),
    )
    for option in reversed(listed):
        command = option(command)
    return command


def members(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """The members of the request that ``options`` mean; what was not given is left out."""
    found: dict[str, Any] = {}
    for name in ("prompt", "timeout", "concurrency", "rate", "age_max", "retry_after_max"):
        if wishes.get(name) is not None:
            found[name] = None if wishes[name] == kinds.DEFAULT else wishes[name]
    if statuses := list(wishes.get("statuses") or ()):
        found["statuses"] = None if kinds.DEFAULT in statuses else statuses
    if (schedule := wishes.get("schedule")) is not None:
        found["schedule"] = None if schedule == kinds.DEFAULT else schedule
    if (headers := wishes.get("headers")) is not None:
        given = (
            None
            if headers == kinds.DEFAULT
            else output.read_json(secret_input.read(headers, what="--headers"), what="--headers")
        )
        if given is not None and not (
            isinstance(given, dict) and all(isinstance(value, str) for value in given.values())
        ):
            raise output.Unusable("--headers: give a JSON object of names and texts")
        found["headers"] = given
    if (key := wishes.get("signing_key")) is not None:
        found["signing_key"] = None if key == kinds.DEFAULT else secret_input.read(key, what="--signing-key")
    if (source := wishes.get("url")) is not None:
        found["url"] = secret_input.read(source, what="--url")
    return found
