"""What must survive of destinations: their part of the ``Store`` protocol of ``base.py``, same rules.

No secret is known here: what is kept of them was encrypted by the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from relay.domain import model


class Which(StrEnum):
    """What becomes of what was held, when its destination is resumed."""

    ALL = "all"
    NEWEST = "newest"
    """The last of each task is told, what came before it is superseded."""
    NONE = "none"
    """Nothing of it is told: it is dead, and can be redelivered."""


class Resumed(NamedTuple):
    """How many deliveries became pending, superseded, dead, and delivered: those had arrived before."""

    released: int = 0
    superseded: int = 0
    dropped: int = 0
    restored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDestination:
    """A destination that was made by API. ``sealed`` is its URL and secrets, encrypted by the caller.

    ``owner`` is the id of the API key that an inline one belongs to. ``used_at`` is when an inline one
    was last named.
    """

    name: str
    source: model.Source
    owner: str | None
    options: model.DestinationOptions
    sealed: str
    created_at: float
    changed_at: float
    used_at: float


class Destinations(Protocol):
    """Destinations made by API, and what relay remembers of every destination, configured ones too."""

    async def save_destination(self, destination: StoredDestination) -> None:
        """Store it, or replace the one of that name (but its ``created_at``).

        A new one begins without the health that a former one of its name had, and what is held for that one
        is held as ``destination_missing``. ``used_at`` never goes back.
        """
        ...

    async def destinations(self) -> list[StoredDestination]:
        """All that are stored, by name."""
        ...

    async def delete_destination(self, name: str) -> bool:
        """Forget it and its health; ``False`` if there is none.

        What it is owed is held as ``destination_missing``, also what was held for another reason.
        """
        ...

    async def touch_destinations(self, names: Collection[str], *, now: float) -> None:
        """Note that they were named now; older instants than the stored one are ignored."""
        ...

    async def purge_inline(self, before: float, *, limit: int) -> list[str]:
        """Delete up to ``limit`` inline destinations that nobody named since ``before``, that are owed
        nothing and that no registration of a running task names; their names."""
        ...

    async def healths(self) -> list[model.Health]:
        """All that is remembered, by name."""
        ...

    async def pause(self, health: model.Health) -> int:
        """Store ``health`` and hold what is pending, for its reason; how many were held.

        Tests (type ``relay.test``) are left alone. Raises ``errors.StoreRejected`` when the stored
        health is not older.
        """
        ...

    async def resume(self, health: model.Health, *, which: Which, now: float, rate: float) -> Resumed:
        """Store ``health`` and let go of what is held.

        What is released is pending with a fresh budget, oldest first, ``rate`` per second from ``now``
        on. What is not told now although it arrived before, and was held because it was redelivered, is
        delivered again, as of its last arrival. Raises as ``pause`` does.
        """
        ...

    async def release_missing(self, destination: str, *, now: float, rate: float) -> int:
        """What is held for it as ``destination_missing`` becomes pending, oldest first, ``rate`` per second
        from ``now`` on; how many."""
        ...

    async def release_strays(self, destination: str, *, now: float, rate: float) -> int:
        """What is held for a destination that is there, and neither paused nor disabled by what is stored, is
        due from ``now`` on, ``rate`` per second, its budget as it is; how many. For what was stored as held
        while that was resumed."""
        ...

    async def hold(self, destination: str, reason: model.HoldReason) -> int:
        """Hold what is pending for it, but tests; how many. For what slipped in while it was paused."""
        ...

    async def canary(self) -> str | None:
        """The token that shows whether a key opens what is sealed; ``None`` before the first."""
        ...

    async def reseal(self, *, canary: str, sealed: Mapping[str, str]) -> None:
        """Store the canary, and ``sealed`` anew for the destinations named."""
        ...
