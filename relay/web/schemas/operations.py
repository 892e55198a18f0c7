"""Probes, and what answers here."""

from __future__ import annotations

from relay.web.schemas import common


class Health(common.Out):
    """The answer of a probe that is well."""

    status: str


class Index(common.Out):
    """What answers here."""

    name: str
    api: str
