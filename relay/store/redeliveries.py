"""What must survive of redeliveries: their part of the ``Store`` protocol of ``base.py``, same rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relay.domain import model
from relay.domain import redelivery as rules

if TYPE_CHECKING:
    from relay.store import base


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """One batch of a redelivery, and how it stands behind it.

    ``moved`` are owed again. ``due`` has the earliest due time for each destination that has some
    pending now; what is owed to one that takes nothing is held, and not in it.
    """

    redelivery: rules.Redelivery
    moved: int
    due: Mapping[str, float]


class Redeliveries(Protocol):
    """Many deliveries told again."""

    async def selected(
        self, selection: rules.Selection, *, before: float, sample: int
    ) -> tuple[int, list[model.Delivery]]:
        """How many deliveries that were created before ``before`` are selected, and the first ones.

        Counts all of them, some thousand per statement. ``sample`` is how many to answer, oldest first.
        """
        ...

    async def add_redelivery(self, made: rules.Redelivery) -> None:
        """Store a new one."""
        ...

    async def redelivery(self, redelivery_id: str) -> rules.Redelivery | None:
        """One of them."""
        ...

    async def redeliveries(
        self, state: rules.State | None, *, before: base.Position | None, limit: int
    ) -> base.Page[rules.Redelivery]:
        """Newest first by (``created_at``, ``id``), those before that position; ``None``: in any state."""
        ...

    async def running_redeliveries(self) -> list[rules.Redelivery]:
        """All that are running, oldest first."""
        ...

    async def change_redelivery(
        self, redelivery_id: str, action: rules.Action, *, rate: float | None, now: float
    ) -> rules.Redelivery | None:
        """Do what ``domain.redelivery.after`` allows; as it is then, ``None`` if unknown.

        Raises ``errors.WrongState``; nothing is changed then.
        """
        ...

    async def advance_redelivery(
        self,
        running: rules.Redelivery,
        turn: rules.Turn,
        *,
        known: Collection[str],
        now: float,
    ) -> Advanced | None:
        """Make its next batch of deliveries due, each with a fresh budget of attempts, in one transaction
        with its position and counts. ``None`` where it is not running at that position any more.

        A batch is found by looking at a bounded number of deliveries, so it may be short, even empty,
        and not be the last. Those that are no longer in the selected state are left alone. What is owed
        to a destination that is not in ``known``, paused or disabled becomes held for that reason; what
        is held for it already stays as it is, and is skipped.
        """
        ...

    async def count_redeliveries(self) -> Mapping[rules.State, int]:
        """How many there are in each state that any are in. For metrics."""
        ...

    async def purge_redeliveries(self, *, previews_before: float, ended_before: float, limit: int) -> int:
        """Delete up to ``limit`` each of previews that nobody ran since, and of those that ended before
        an instant; how many went."""
        ...
