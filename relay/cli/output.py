"""What the commands print, and the errors that end them.

Results go to stdout, everything else (errors, advice, progress) to stderr. What comes from other
machines is cleaned of control characters before a terminal sees it. Colour and motion appear on
terminals only; in a pipe a list is aligned plain text. Read ``Failed`` for the exit codes.
"""

from __future__ import annotations

import decimal
import json
import math
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import rich_click as click

CUT: Final = 2000
"""Characters of one value that a table shows; ``--json`` has all of it."""

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
"""Control characters, and those that reverse the direction of text."""

_COLOURS: Final = {
    "succeeded": "green",
    "delivered": "green",
    "verified": "green",
    "failed": "red",
    "dead": "red",
    "lost": "red",
    "stalled": "yellow",
    "held": "yellow",
    "processing": "cyan",
    "sending": "cyan",
    "running": "cyan",
    "paused": "yellow",
    "done": "green",
}


class Failed(click.ClickException):
    """It was tried and failed: exit 1. The text is one line that says what to do."""

    exit_code = 1


class Unusable(Failed):
    """Wrong usage, or settings that cannot be used: exit 2."""

    exit_code = 2


class Unreachable(Failed):
    """No daemon answers: exit 3."""

    exit_code = 3


def clean(value: object) -> str:
    """``value`` as one line that cannot steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        value = ", ".join(value) or "-"
    elif isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = _UNSAFE.sub(" ", str(value))
    return text if len(text) <= CUT else text[: CUT - 1] + "…"


def moment(value: object) -> str:
    """A timestamp of the API without its fraction of a second."""
    return re.sub(r"\.\d+", "", clean(value)).replace("+00:00", "Z")


def line(text: str = "") -> None:
    """One line of the result."""
    click.echo(text)


def note(text: str) -> None:
    """Advice or progress, on stderr."""
    click.echo(text, err=True)


def error(text: str) -> None:
    """An error's line, or one line per problem."""
    for problem in text.splitlines() or ["it failed"]:
        click.echo(click.style("error:", fg="red") + f" {clean(problem)}", err=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Rows under headers, in aligned columns. Without rows ``empty`` is said on stderr."""
    if not rows:
        note(empty)
        return
    cells = [[clean(value) for value in row] for row in rows]
    widths = [max(_width(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    click.echo(click.style(_aligned(headers, widths), bold=True))
    for row in cells:
        click.echo(_aligned(row, widths, colours=True))


def fields(pairs: Mapping[str, object]) -> None:
    """Names and values, one pair per line."""
    width = max(_width(name) for name in pairs)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {_coloured(clean(value))}")


def pretty(document: str) -> None:
    """A JSON text, indented; coloured on a terminal. The text must be JSON."""
    if sys.stdout.isatty():
        import rich.console

        rich.console.Console().print_json(document, indent=2)
    else:
        click.echo(json.dumps(json.loads(document), indent=2, ensure_ascii=False))


def _aligned(cells: Sequence[str], widths: Sequence[int], *, colours: bool = False) -> str:
    padded = [
        (_coloured(cell) if colours else cell) + " " * (width - _width(cell))
        for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _coloured(word: str) -> str:
    return click.style(word, fg=_COLOURS[word]) if word in _COLOURS else word


def _width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def read_json(text: str, *, what: str) -> Any:
    """Decode JSON with exact money. Raises ``Unusable`` naming ``what``."""
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        reason = str(exc) if isinstance(exc, json.JSONDecodeError) else "not JSON"
        raise Unusable(f"{what}: not valid JSON: {reason}") from None


def _finite(word: str) -> float:
    """A number that JSON can say again: ``1e400`` would become Infinity."""
    if math.isinf(number := float(word)):
        raise ValueError(word)
    return number


def _refuse_constant(word: str) -> object:
    raise ValueError(word)


def cannot_listen(exc: OSError, *, host: str, port: int) -> Failed:
    """The error of an address that cannot be listened on."""
    import errno
    import os

    if exc.errno == errno.EADDRINUSE:
        return Failed(f"{host} port {port} is in use: stop what listens there or choose another with --port")
    reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "no such address"
    return Failed(f"cannot listen on {host} port {port}: {reason}")
