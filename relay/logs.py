"""Logs to stderr: text for people, JSON for machines, a line per event.

Relay's own lines go straight from structlog to the stream: every delivery writes two, and the
standard library's machinery around them cost more than signing the webhook. What libraries log
through the standard library is written in the same form. Tracebacks never carry local variables:
those hold secrets.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
from typing import Final, TextIO

import pydantic_core
import structlog

_ENCODER: Final = json.JSONEncoder(default=repr)
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_LEVELS: Final = {"warn": "warning", "exception": "error"}
"""Levels of structlog's methods that are not called as their level is."""


def configure(*, level: str, style: str) -> None:
    """Set up logging for the process. ``style`` is text, json, or auto (text on a terminal)."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]
    own: list[structlog.typing.Processor]
    if as_json:
        render = [structlog.processors.format_exc_info, _render_json]
        own = [_json_line]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        own = [*shared, *render]
    stream = sys.stderr
    structlog.configure(
        processors=own,
        logger_factory=lambda name="relay": _Lines(name, stream),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # aiohttp's and asyncio's own chatter is ours to summarise.
    for noisy in ("aiohttp.access", "asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Lines:
    """What structlog hands finished lines to. ``name`` is the module's."""

    __slots__ = ("_stream", "name")

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def write(self, line: str) -> None:
        """Write one line, or lose it: a full disk or a closed pipe must not stop deliveries."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = exception = critical = write


def _json_line(logger: _Lines, method: str, event: structlog.typing.EventDict) -> str:
    """What ``shared`` and ``render`` make of an event, in one step: it runs twice for every delivery."""
    event["logger"] = logger.name
    event["level"] = _LEVELS.get(method, method)
    event["timestamp"] = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    if _PLAIN.issuperset(map(type, event.values())):
        # No object whose members its ``repr`` would keep to itself.
        with contextlib.suppress(ValueError):
            line = pydantic_core.to_json(event)
            if line.isascii() and b"\x7f" not in line:
                return line.decode("ascii")
    return _ENCODER.encode(event)


def _render_json(logger: object, method: str, event: structlog.typing.EventDict) -> str:
    return _ENCODER.encode(event)
