"""Telling many deliveries again: which ones, the preview, and how far it is.

What ``relay deliveries redeliver --all`` and ``relay redeliveries`` share. The daemon does the work;
a command only watches it, and may go away meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import rich_click as click
from click import exceptions

from relay.cli import client, kinds, output, waiting
from relay.domain import redelivery as rules

if TYPE_CHECKING:
    import rich.progress

Command = TypeVar("Command", bound=Callable[..., Any])

INTERVAL: Final = 0.5
"""Seconds between two looks at a redelivery."""

PREVIEW_TIMEOUT: Final = 300.0
"""Seconds for the answer to a preview: the daemon counts all that is selected."""

STEPS: Final = 10
"""Lines that a redelivery prints on its way where there is no terminal."""

NARROWING: Final = {
    "destination": "--destination",
    "task": "--task",
    "reason": "--reason",
    "type": "--type",
    "created_after": "--since",
    "created_before": "--until",
}
"""What narrows a selection: the API's members, and the options for them."""


def selection(command: Command) -> Command:
    """The options that say which deliveries; read them with ``selected``."""
    for option in reversed(
        (
            click.option(
                "--state",
                type=click.Choice(list(map(str, rules.SELECTABLE))),
                help="Only those in this state; default: dead.",
            ),
            click.option("--destination", metavar="NAME", help="Only those to this destination."),
            click.option("--task", type=kinds.Task(), metavar="TASK", help="Only those about this task."),
            click.option("--type", metavar="TYPE", help="Only those of this type, `task.failed` and so on."),
            click.option(
                "--reason", metavar="REASON", help="Only those whose last attempt failed for this reason."
            ),
            click.option(
                "--since",
                "created_after",
                type=kinds.Instant(),
                metavar="TIME",
                help="Only those created then or later, such as 2026-11-23T01:02:03Z.",
            ),
            click.option(
                "--until",
                "created_before",
                type=kinds.Instant(),
                metavar="TIME",
                help="Only those created before.",
            ),
            rate,
        )
    ):
        command = option(command)
    return command


def rate(command: Command) -> Command:
    """``--rate``."""
    return click.option(
        "--rate",
        type=kinds.Number(float, least=rules.RATE_MIN, most=rules.RATE_MAX),
        metavar="N",
        help=f"Deliveries per second; default: {rules.RATE:g}.",
    )(command)


def selected(given: Mapping[str, object], *, whole: bool) -> dict[str, object]:
    """The body that asks for what the options of ``selection`` say.

    ``whole`` says that without any narrowing all are meant. Raises ``output.Unusable`` otherwise.
    """
    body = {name: value for name, value in given.items() if value is not None}
    if not body.keys() & NARROWING.keys():
        if not whole:
            raise output.Unusable(f"give --all, or at least one of {', '.join(NARROWING.values())}")
        body["all"] = True
    return body


def preview(body: Mapping[str, object]) -> client.Answer:
    """Have the daemon make it; nothing is sent yet."""
    return client.ask("POST", "/redeliveries", body=body, timeout=PREVIEW_TIMEOUT)


def show_preview(made: Mapping[str, Any]) -> None:
    """How many, and the first of them."""
    sample = [one for one in made.get("sample") or () if isinstance(one, dict)]
    count = made.get("count")
    if sample:
        output.table(
            ("DELIVERY", "TYPE", "TASK", "DESTINATION", "STATE", "ATTEMPTS", "REASON", "CREATED"),
            [
                (
                    one.get("id"),
                    one.get("type"),
                    one.get("task_id"),
                    one.get("destination"),
                    one.get("state"),
                    one.get("attempts_made"),
                    one.get("reason"),
                    output.moment(one.get("created_at")),
                )
                for one in sample
            ],
            empty="",
        )
    more = int(count or 0) - len(sample)
    output.note(f"{output.clean(count)} deliveries" + (f", of which {more} are not shown" if more else ""))


def path(redelivery: str) -> str:
    """``/redeliveries/{redelivery}``."""
    return f"/redeliveries/{client.quoted(redelivery)}"


def standing(body: Mapping[str, Any]) -> str:
    """How it stands, in a few words."""
    skipped = f", {body.get('skipped')} skipped" if body.get("skipped") else ""
    return f"{body.get('state')}: {body.get('done')} of {body.get('count')} due again{skipped}"


class Progress(Protocol):
    """Shows how a redelivery stands. Entered before the first look, left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, body: Mapping[str, Any]) -> None:
        """How it stands; called after every look."""

    def say(self, text: str) -> None:
        """Something about the watching itself."""


class Lines:
    """A line on stderr now and then, for pipes and logs."""

    def __init__(self) -> None:
        self._shown: tuple[object, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, body: Mapping[str, Any]) -> None:
        """A line for each tenth of it, and for each state."""
        passed = _passed(body)
        reached = (body.get("state"), STEPS * passed // max(1, int(body.get("count") or 0)))
        if reached != self._shown:
            self._shown = reached
            output.note(output.clean(standing(body)))

    def say(self, text: str) -> None:
        """A line."""
        output.note(output.clean(text))


class Bar:
    """A bar that moves, on a terminal (stderr)."""

    def __init__(self) -> None:
        import rich.console
        import rich.progress

        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.fields[state]}", markup=False, style="cyan"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}/s", markup=False),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
        )
        self._bar: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, body: Mapping[str, Any]) -> None:
        """The bar as it shall look from now on."""
        if self._bar is None:
            self._bar = self._bars.add_task("", state="", rate="")
        self._bars.update(
            self._bar,
            total=int(body.get("count") or 0),
            completed=_passed(body),
            state=output.clean(body.get("state")),
            rate=f"{float(body.get('rate') or 0):g}",
        )

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bars.console.print(output.clean(text), markup=False, highlight=False)


def progress() -> Progress:
    """What fits stderr: ``Bar`` on a terminal, otherwise ``Lines``."""
    return Bar() if sys.stderr.isatty() else Lines()


def _passed(body: Mapping[str, Any]) -> int:
    return int(body.get("done") or 0) + int(body.get("skipped") or 0)


def run(redelivery: str, *, rate: float | None) -> dict[str, Any]:
    """Have it run, or go on; how it stands then."""
    body = {} if rate is None else {"rate": rate}
    return client.ask("POST", f"{path(redelivery)}/run", body=body).json()


def watch(redelivery: str) -> None:
    """Show how far it is until it stops; exit 0 if it is done, else 1.

    Ctrl-C leaves it running, and says how to look at it.
    """
    try:
        body = asyncio.run(_watch(redelivery))
    except KeyboardInterrupt:
        name = output.clean(redelivery)
        output.note(
            f"it goes on without you: look with `relay redeliveries show {name}`, "
            f"stop it with `relay redeliveries pause {name}`"
        )
        raise
    output.line(f"{output.clean(redelivery)}  {output.clean(standing(body))}")
    if body.get("state") == rules.State.PAUSED:
        output.note(f"go on with: relay redeliveries run {output.clean(redelivery)}")
    if body.get("state") != rules.State.DONE:
        raise exceptions.Exit(1)


async def _watch(redelivery: str) -> dict[str, Any]:
    async with client.connected() as daemon:
        with progress() as shown:
            return await until_it_stops(daemon, redelivery, progress=shown)


async def until_it_stops(
    daemon: client.Daemon,
    redelivery: str,
    *,
    progress: Progress,
    interval: float = INTERVAL,
    patience: float = waiting.PATIENCE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Ask about it until it is not running; as it is then. Times and errors are ``waiting``'s."""
    patient = waiting.Patient(daemon, say=progress.say, patience=patience, clock=clock)
    while True:
        answer = await patient.look(path(redelivery))
        if answer is not None:
            body = answer.json()
            progress.show(body)
            if body.get("state") != rules.State.RUNNING:
                return body
        await sleep(interval)
