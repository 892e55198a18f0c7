"""Waiting for tasks to end, and showing how far they are.

Asks the daemon, never the upstream. A daemon that restarts is waited for; a stalled task is too.
``until_ended`` is the loop; ``Lines`` and ``Live`` are the two ways of showing it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from click import exceptions

from relay.cli import client, output
from relay.domain import model, wording

if TYPE_CHECKING:
    import rich.progress

INTERVAL: Final = 1.0
"""Seconds between two looks at the daemon; it costs the upstream nothing."""

PATIENCE: Final = 120.0
"""Seconds for which a daemon that does not answer is asked again: longer than any restart."""


class Progress(Protocol):
    """Shows how tasks stand. Entered before the first look, left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, reference: str, standing: str) -> None:
        """How the task ``reference`` stands; called after every look."""

    def say(self, text: str) -> None:
        """Something about the waiting itself."""


class Lines:
    """A line on stderr whenever something changed, for pipes and logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, reference: str, standing: str) -> None:
        """A line, if ``standing`` is new."""
        if self._shown.get(reference) != standing:
            self._shown[reference] = standing
            seconds = self._clock() - self._started
            output.note(f"{output.clean(reference)}  {seconds:.0f} s  {output.clean(standing)}")

    def say(self, text: str) -> None:
        """A line."""
        output.note(output.clean(text))


class Live:
    """A line per task that moves, on a terminal (stderr)."""

    def __init__(self) -> None:
        import rich.console
        import rich.progress

        self._bars = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.fields[reference]}", markup=False),
            rich.progress.TextColumn("{task.fields[standing]}", markup=False, style="cyan"),
            rich.progress.TimeElapsedColumn(),
            console=rich.console.Console(stderr=True),
        )
        self._ids: dict[str, rich.progress.TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, reference: str, standing: str) -> None:
        """The task's line as it shall read from now on."""
        if reference not in self._ids:
            self._ids[reference] = self._bars.add_task(
                "", total=None, reference=output.clean(reference), standing=""
            )
        self._bars.update(self._ids[reference], standing=output.clean(standing))

    def say(self, text: str) -> None:
        """A line above the others."""
        self._bars.console.print(output.clean(text), markup=False, highlight=False)


def progress() -> Progress:
    """What fits stderr: ``Live`` on a terminal, otherwise ``Lines``."""
    return Live() if sys.stderr.isatty() else Lines()


class Patient:
    """Asks a daemon that may be away for a while, such as for a restart."""

    def __init__(
        self,
        daemon: client.Daemon,
        *,
        say: Callable[[str], None],
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._daemon = daemon
        self._say = say
        self._patience = patience
        self._clock = clock
        self._silent_since: float | None = None

    async def look(self, path: str) -> client.Answer | None:
        """What is at ``path``; ``None`` while the daemon does not answer.

        Raises ``output.Unreachable`` (or the last 5xx) once it was silent for longer than ``patience``
        seconds, and ``client.Refused`` at once for what waiting does not mend.
        """
        try:
            answer = await self._daemon.ask("GET", path)
        except (output.Unreachable, client.Refused) as exc:
            if isinstance(exc, client.Refused) and exc.status < 500 and exc.status != 429:
                raise
            if self._silent_since is None:
                self._silent_since = self._clock()
                self._say(f"{exc.message}; asking again for up to {self._patience:g} s")
            elif self._clock() - self._silent_since > self._patience:
                raise
            return None
        if self._silent_since is not None:
            self._silent_since = None
            self._say("relay answers again")
        return answer


async def until_ended(
    daemon: client.Daemon,
    references: Sequence[str],
    *,
    progress: Progress,
    interval: float = INTERVAL,
    patience: float = PATIENCE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[client.Answer]:
    """Ask about every task until its verdict is ended or lost; the last answers, in order.

    ``interval`` and ``patience`` are in seconds. Raises what ``Patient.look`` raises: a wrong key, a
    task that nobody watches, a daemon that stays away.
    """
    patient = Patient(daemon, say=progress.say, patience=patience, clock=clock)
    ended: dict[str, client.Answer] = {}
    while True:
        for reference in dict.fromkeys(references):
            if reference in ended:
                continue
            answer = await patient.look(client.task_path(reference))
            if answer is None:
                break
            body = answer.json()
            progress.show(reference, standing(body))
            if _verdict(body).final:
                ended[reference] = answer
        if all(reference in ended for reference in references):
            return [ended[reference] for reference in references]
        await sleep(interval)


def standing(body: Mapping[str, Any]) -> str:
    """How a task stands, in a few words."""
    verdict = _verdict(body)
    if verdict is model.Verdict.LOST:
        return "lost: the upstream no longer knows this task"
    if verdict is model.Verdict.STALLED:
        return f"{body.get('status')} (stalled: no end in time, relay goes on asking)"
    return str(body.get("status"))


def succeeded(body: Mapping[str, Any]) -> bool:
    """Whether the task ended, and well."""
    return _verdict(body) is model.Verdict.ENDED and body.get("status") == model.Status.SUCCEEDED


def report(answers: Sequence[client.Answer], *, as_json: bool) -> None:
    """Print how waiting ended; raises ``exceptions.Exit`` with 1 unless all succeeded.

    As JSON it is one task body a line, as it came.
    """
    for answer in answers:
        if as_json:
            output.line(answer.text.strip())
        else:
            _tell(answer.json())
    if not all(succeeded(answer.json()) for answer in answers):
        raise exceptions.Exit(1)


def _tell(body: Mapping[str, Any]) -> None:
    told = {"task": body.get("task_id"), "status": standing(body), "cost": cost(body)}
    links = list(wording.output_links(body.get("output")))
    told |= {"output" if i == 0 else f"output {i + 1}": link for i, link in enumerate(links)}
    if body.get("error") is not None:
        told["error"] = wording.error_text(body["error"])
    output.fields(told)


def cost(body: Mapping[str, Any]) -> str | None:
    """What a task cost, or is thought to; ``None`` where nobody said."""
    actual, estimate = body.get("cost_actual"), body.get("cost_estimate")
    if actual is not None:
        return output.clean(actual)
    return None if estimate is None else f"{output.clean(estimate)} (estimated)"


def _verdict(body: Mapping[str, Any]) -> model.Verdict:
    own = body.get("relay")
    try:
        return model.Verdict(own["verdict"] if isinstance(own, dict) else "")
    except (KeyError, ValueError):
        raise output.Failed(
            "the answer is not relay's (a task without a verdict): is RELAY_URL the upstream's address?"
        ) from None
