"""The tables of docs/destinations.md, as they follow from the code.

``python -m tests.senders.document`` writes them into the document; a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path

from relay.domain import errors
from relay.senders import verdicts, words

DOCUMENT = Path(__file__).parents[2] / "docs" / "destinations.md"

BECOMES = {
    errors.Decision.RETRY: "retried",
    errors.Decision.DEAD: "dead",
    errors.Decision.DISABLE: "held, destination disabled",
    errors.Decision.UNKNOWN: "unknown",
}


def table(kind: verdicts.Kind) -> str:
    """What the answers of one kind of peer mean."""
    lines = ["| answer | the delivery is | because |", "|---|---|---|"]
    for line in verdicts.TABLES[kind]:
        becomes = "delivered" if line.decision is None else BECOMES[line.decision]
        becomes += ", destination disabled" if line.disable else ""
        lines.append(f"| {line.answer} | {becomes} | {line.meaning} |")
    return "\n".join(lines)


def faults() -> str:
    """What goes wrong without an answer."""
    lines = ["| reason | the delivery is | charged | told as |", "|---|---|---|---|"]
    for fault, trouble in verdicts.FAULTS.items():
        charged = "yes" if trouble.charged else "no"
        lines.append(f"| `{fault}` | {BECOMES[trouble.decision]} | {charged} | {trouble.told} |")
    return "\n".join(lines)


def listed(group: frozenset[str]) -> str:
    """Words, wrapped as the document is."""
    text, width = "", 0
    for word in sorted(group):
        piece = f"`{word}`"
        if width and width + len(piece) + 1 > 118:
            text, width = f"{text}\n", 0
        elif width:
            text, width = f"{text} ", width + 1
        text, width = text + piece, width + len(piece)
    return text


def blocks() -> dict[str, str]:
    """Every generated block by its name."""
    made = {kind.value: table(kind) for kind in verdicts.Kind}
    made |= {"faults": faults()}
    made |= {"words-destination": listed(words.DESTINATION), "words-message": listed(words.MESSAGE)}
    return made


def filled(text: str) -> str:
    """The document with every block as it follows from the code."""
    for name, block in blocks().items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
        text, found = pattern.subn(lambda _, new=f"{begin}{block}\n{end}": new, text)
        assert found == 1, f"the document has no block named {name}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text("utf-8")), "utf-8")
