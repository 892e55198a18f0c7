"""Secrets that a person hands to a command: from a file, from stdin, or typed unseen.

Never from an argument: those can be read by every user of the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import rich_click as click

from relay.cli import output

SECRET_MAX: Final = 64 * 1024
"""Bytes of a secret's file that are read."""


def read(source: str, *, what: str) -> str:
    """The text in ``@FILE`` or on stdin (``-``). Raises ``output.Unusable``, never showing it."""
    if source != "-" and not source.startswith("@"):
        raise output.Unusable(f"{what}: give @FILE or -: arguments can be read by every user of this machine")
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(SECRET_MAX + 1)
        else:
            with Path(source[1:]).open("rb") as file:
                raw = file.read(SECRET_MAX + 1)
        text = raw.decode("utf-8").strip()
    except OSError as exc:
        raise output.Unusable(f"{what}: {source[1:]}: {exc.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise output.Unusable(f"{what}: not UTF-8") from None
    if not text or len(raw) > SECRET_MAX:
        raise output.Unusable(f"{what}: it is empty, or over {SECRET_MAX} bytes")
    return text


def asked(what: str) -> str:
    """What a person types without its being shown. Raises ``output.Unusable`` where nobody can."""
    if not sys.stdin.isatty():
        raise output.Unusable(f"no {what}: give --{what.lower()} @FILE, or --{what.lower()} - for stdin")
    text: str = click.prompt(what, hide_input=True, err=True)
    return text.strip()
