"""What options take beyond texts: numbers, instants, delays and tasks, refused where they are typed.

The daemon would refuse the same, but only it knows then, and it knows members of a body, not options.
The limits are the API's; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import rich_click as click

from relay.cli import client, output

DEFAULT: Final = "default"
"""What puts an option of a destination back to the default of its kind."""

LIMIT_MAX: Final = 200
"""Rows in one page of a list."""

SECONDS_LEAST: Final = 0.001
SECONDS_MAX: Final = 366 * 86_400.0
"""The longest timeout, age and wait of a destination."""

PER_SECOND_MAX: Final = 10_000.0
CONCURRENCY_MAX: Final = 1000
OVERLAP_MAX: Final = 90 * 86_400.0
DELAY_MAX: Final = 7 * 86_400.0
DELAYS_MAX: Final = 50
"""Attempts that a schedule may have."""


class Number(click.ParamType[Any]):
    """A finite number from ``least`` to ``most``, both included; ``DEFAULT`` too where ``resettable``."""

    name = "number"

    def __init__(
        self,
        kind: Callable[[str], float],
        *,
        least: float,
        most: float,
        resettable: bool = False,
    ) -> None:
        self._kind = kind
        self._least = least
        self._most = most
        self._resettable = resettable

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.ParamType``."""
        if value is None or (self._resettable and value == DEFAULT):
            return value
        number = _number(self._kind, value)
        if number is None or not self._least <= number <= self._most:
            whole = "whole " if self._kind is int else ""
            reset = f", or {DEFAULT}" if self._resettable else ""
            self.fail(f"give a {whole}number from {self._least:.15g} to {self._most:.15g}{reset}", param, ctx)
        return number


class Delays(click.ParamType[Any]):
    """Seconds with commas between, or ``DEFAULT``."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.ParamType``."""
        if not isinstance(value, str) or value == DEFAULT:
            return value
        delays = [_number(float, word) for word in value.split(",")]
        if not all(delay is not None and 0 <= delay <= DELAY_MAX for delay in delays):
            self.fail(
                f"give seconds from 0 to {DELAY_MAX:.15g} with commas between, such as 0,5,300, or {DEFAULT}",
                param,
                ctx,
            )
        if len(delays) > DELAYS_MAX:
            self.fail(f"give at most {DELAYS_MAX} delays: there is an attempt for each", param, ctx)
        return delays


class Instant(click.ParamType[Any]):
    """An instant as the API takes it; it stays a text."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.ParamType``."""
        if value is None:
            return value
        from relay.web.schemas import common

        try:
            common.epoch(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return value


class Task(click.ParamType[Any]):
    """The id of a task, or ``UPSTREAM:ID``."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See ``click.ParamType``."""
        if value is None:
            return value
        try:
            client.task_path(value)
        except output.Unusable as exc:
            self.fail(exc.message, param, ctx)
        return value


def _number(kind: Callable[[str], float], text: Any) -> float | None:
    """The finite number in ``text``; ``None`` where there is none."""
    try:
        number = kind(text)
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):  # the latter for whole numbers that no float can hold
        return None
