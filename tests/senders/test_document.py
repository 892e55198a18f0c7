"""docs/destinations.md says what the code does."""

from __future__ import annotations

from tests.senders import document


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    written = document.DOCUMENT.read_text("utf-8")
    assert written == document.filled(written), "python -m tests.senders.document writes them anew"
