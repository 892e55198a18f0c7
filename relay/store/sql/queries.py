"""Loads the named statements of ``relay/store/queries/*.sql``.

A statement begins with ``-- name: the_name``, followed by a comment that says its purpose in a line.
It runs on every engine: parameters are ``:name``, many rows travel as one JSON parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n(?=-- \S)", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Take a file apart into statements by name. Raises ``ValueError`` for a name used twice."""
    pieces = _NAME.split(text)
    statements: dict[str, str] = {}
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if name in statements:
            raise ValueError(f"the query {name} is defined twice")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        statements[name] = "\n".join(lines).strip().removesuffix(";")
    return statements


def load() -> Mapping[str, str]:
    """All statements of all files. Raises ``ValueError`` for a name used twice."""
    statements: dict[str, str] = {}
    for file in sorted((resources.files("relay.store") / "queries").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        for name, statement in parse(file.read_text("utf-8")).items():
            if name in statements:
                raise ValueError(f"the query {name} is defined twice")
            statements[name] = statement
    return MappingProxyType(statements)


QUERIES: Final = load()
