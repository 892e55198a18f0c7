"""What a line in the log looks like to whoever collects it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from relay import logs


@dataclass
class Guarded:
    """Keeps one of its members out of its ``repr``."""

    name: str
    secret: str = field(repr=False)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is written to stderr, with logging as in operation; as it was before, afterwards."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        logs.configure(level="info", style="json")
    yield written
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines that were written, decoded."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object(stream: io.StringIO) -> None:
    structlog.get_logger("relay.engine.poller").bind(upstream="up").info(
        "status change", task="t\n1", number=1, waited=0.5, known=True, detail=None
    )
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "upstream": "up",
        "task": "t\n1",
        "number": 1,
        "waited": 0.5,
        "known": True,
        "detail": None,
        "event": "status change",
        "logger": "relay.engine.poller",
        "level": "info",
    }


@pytest.mark.parametrize("text", ["läuft", "\u2028", "\ud800", "\x00\x1b[31m", "\x7f"])
def test_a_line_is_printable_ascii_whatever_it_tells(stream: io.StringIO, text: str) -> None:
    structlog.get_logger("relay").warning("told", text=text)
    written = stream.getvalue()
    assert written.rstrip("\n").isascii()
    assert written.rstrip("\n").isprintable()
    assert lines(stream)[0]["text"] == text


def test_an_object_tells_what_its_repr_does(stream: io.StringIO) -> None:
    structlog.get_logger("relay").info("told", who=Guarded("ann", "hunter2"))
    assert lines(stream)[0]["who"] == "Guarded(name='ann')"
    assert "hunter2" not in stream.getvalue()


def test_an_exception_comes_with_its_traceback_and_without_local_variables(stream: io.StringIO) -> None:
    local = "hunter2"
    try:
        raise ValueError("broken", len(local))
    except ValueError:
        structlog.get_logger("relay").exception("failed")
    [line] = lines(stream)
    assert line["level"] == "error"
    assert "ValueError" in line["exception"]
    assert "Traceback" in line["exception"]
    assert local not in stream.getvalue()


def test_what_libraries_log_has_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("somebody").warning("watch out for %s", "them", extra={"task": "t1"})
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "watch out for them",
        "task": "t1",
        "logger": "somebody",
        "level": "warning",
    }


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger("relay").debug("nothing")
    assert stream.getvalue() == ""
