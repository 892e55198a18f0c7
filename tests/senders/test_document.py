"""docs/destinations.md says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import relay
from relay.domain import model, reasons
from relay.senders import apprise_jobs
from tests.senders import document

PACKAGE = Path(relay.__file__).parent
PEERS = {"http_NNN", "smtp_NNN"}
"""Made of what a peer answers."""


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    written = document.DOCUMENT.read_text("utf-8")
    assert written == document.filled(written), "python -m tests.senders.document writes them anew"


def test_every_reason_is_explained_once() -> None:
    text = document.DOCUMENT.read_text("utf-8")
    table = text.partition("<!-- reasons -->\n")[2].partition("<!-- end -->")[0]
    explained = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    own = [*reasons.Reason, *model.HoldReason, *apprise_jobs.Fault]
    assert sorted(explained) == sorted({*map(str, own), *PEERS})
    assert all(line.count(" | ") == 2 for line in table.splitlines()[2:])


def test_no_reason_is_made_up_on_the_way() -> None:
    """One that is written where it is used would be missing above. Upstreams' reasons are others."""
    made_up = [
        f"{file.relative_to(PACKAGE)}:{node.value.lineno}"
        for layer in ("domain", "senders", "engine", "store")
        for file in sorted((PACKAGE / layer).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.keyword)
        and node.arg == "reason"
        and isinstance(node.value, ast.Constant)
        and node.value.value
    ]
    assert made_up == []
