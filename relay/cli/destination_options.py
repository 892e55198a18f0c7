"""The options that describe a destination, for adding and for changing one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import rich_click as click

from relay.cli import output, secret_input
from relay.domain import model

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT: Final = "default"
"""What puts an option of a destination back to the default of its kind."""

_STATUSES: Final = tuple(map(str, model.Change))


class _OrDefault(click.ParamType[Any]):
    """A number, or the word that puts the option back."""

    name = "number"

    def __init__(self, kind: Callable[[str], float], *, least: float) -> None:
        self._kind = kind
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value is None or value == DEFAULT:
            return value
        try:
            number = self._kind(value)
        except ValueError:
            number = float("nan")
        if not number >= self._least:
            self.fail(f"give a number of at least {self._least:g}, or {DEFAULT}", param, ctx)
        return number


def options(command: Command) -> Command:
    """What a destination may be given: its URL and how it is told."""
    listed = (
        click.option("--url", metavar="@FILE", help="Where its URL is: @FILE, or - for stdin."),
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([*_STATUSES, DEFAULT]),
            help="What it hears; may be repeated.",
        ),
        click.option("--prompt/--no-prompt", default=None, help="Whether messages quote the prompt."),
        click.option(
            "--schedule", metavar="0,5,300", help="Seconds before each attempt, from the one before."
        ),
        click.option(
            "--timeout", type=_OrDefault(float, least=0.001), metavar="SECONDS", help="For one attempt."
        ),
        click.option(
            "--concurrency", type=_OrDefault(int, least=1), metavar="N", help="Sends at the same time."
        ),
        click.option(
            "--rate", type=_OrDefault(float, least=0.001), metavar="N", help="Deliveries per second."
        ),
        click.option(
            "--age-max",
            type=_OrDefault(float, least=0.001),
            metavar="SECONDS",
            help="After which what is still owed is given up.",
        ),
        click.option(
            "--retry-after-max",
            type=_OrDefault(float, least=0.001),
            metavar="SECONDS",
            help="For which its Retry-After is heeded at most.",
        ),
        click.option(
            "--headers", metavar="@FILE", help="More headers of a webhook: a JSON object of names and values."
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
            found[name] = None if wishes[name] == DEFAULT else wishes[name]
    if statuses := list(wishes.get("statuses") or ()):
        found["statuses"] = None if DEFAULT in statuses else statuses
    if (schedule := wishes.get("schedule")) is not None:
        found["schedule"] = None if schedule == DEFAULT else _numbers(schedule)
    if (headers := wishes.get("headers")) is not None:
        given = (
            None
            if headers == DEFAULT
            else output.read_json(secret_input.read(headers, what="--headers"), what="--headers")
        )
        if given is not None and not isinstance(given, dict):
            raise output.Unusable("--headers: give a JSON object of names and values")
        found["headers"] = given
    if (key := wishes.get("signing_key")) is not None:
        found["signing_key"] = None if key == DEFAULT else secret_input.read(key, what="--signing-key")
    if (source := wishes.get("url")) is not None:
        found["url"] = secret_input.read(source, what="--url")
    return found


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise output.Unusable("--schedule: give seconds with commas between, such as 0,5,300") from None
