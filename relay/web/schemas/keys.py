"""API keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from relay.domain import model as domain
from relay.web.schemas import common


class NewKey(common.In):
    """An API key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    role: Annotated[domain.Role, Field(strict=False)] = domain.Role.CLIENT


class Key(common.Out):
    """An API key without its secret."""

    id: str
    name: str
    role: domain.Role
    enabled: bool
    created_at: common.Instant
    last_used_at: common.Instant | None


class KeyWithSecret(Key):
    """A new API key: ``key`` is shown this once."""

    key: str


class Keys(common.Out):
    """All API keys, oldest first."""

    keys: list[Key]
    next_cursor: str | None


def key_members(key: domain.Key) -> dict[str, Any]:
    """The members of ``Key``."""
    return {name: getattr(key, name) for name in Key.model_fields}
