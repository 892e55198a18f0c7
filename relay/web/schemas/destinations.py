"""Whom relay tells."""

from __future__ import annotations

from relay.domain import model as domain
from relay.web.schemas import common


class Destination(common.Out):
    """A destination. ``address`` is all of its URL that may be shown; ``statuses`` is what it hears."""

    name: str
    format: domain.Format
    address: str
    statuses: list[domain.Change]
    prompt: bool
    source: str


class Destinations(common.Out):
    """All destinations, by name."""

    destinations: list[Destination]
    next_cursor: str | None
