"""Many deliveries told again: which, and how far it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from relay.domain import model as domain
from relay.domain import redelivery as rules
from relay.web.schemas import common, deliveries

Rate = Annotated[
    float,
    Field(ge=rules.RATE_MIN, le=rules.RATE_MAX, description="Deliveries per second."),
]


class NewRedelivery(common.In):
    """Which deliveries to tell again.

    At least one of ``destination``, ``task``, ``reason``, ``type``, ``created_after`` and
    ``created_before`` has to be there, or ``all`` instead of them.
    """

    destination: common.Word | None = None
    state: Annotated[
        Literal["dead", "delivered", "held", "superseded"],
        Field(description="Only deliveries in this state; what is pending or being sent is owed anyway."),
    ] = "dead"
    reason: common.Word | None = None
    type: common.Word | None = None
    task: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    created_after: common.GivenInstant | None = None
    created_before: common.GivenInstant | None = None
    all: bool = False
    rate: Rate = rules.RATE


class RunRedelivery(common.In):
    """How fast to run it; without ``rate`` as before."""

    rate: Rate | None = None


class Selection(common.Out):
    """Which deliveries are told again; ``null`` does not narrow."""

    destination: str | None
    state: domain.DeliveryState
    reason: str | None
    type: str | None
    task: str | None
    created_after: common.Instant | None
    created_before: common.Instant | None


class Redelivery(common.Out):
    """Many deliveries told again, and how far it is."""

    id: str
    state: rules.State
    filter: Selection
    rate: float
    count: int
    done: int
    skipped: int
    eta_seconds: float | None
    position: common.Instant | None
    created_by: str
    created_at: common.Instant
    changed_at: common.Instant
    finished_at: common.Instant | None


class RedeliveryPreview(Redelivery):
    """A redelivery that sends nothing yet, and the first deliveries that it would send."""

    sample: list[deliveries.Delivery]


class Redeliveries(common.Out):
    """A page of redeliveries, newest first."""

    redeliveries: list[Redelivery]
    next_cursor: str | None


def redelivery_members(shown: rules.Redelivery) -> dict[str, Any]:
    """The members of ``Redelivery``."""
    chosen = shown.selection
    return {
        "id": shown.id,
        "state": shown.state,
        "filter": Selection(
            destination=chosen.destination,
            state=chosen.state,
            reason=chosen.reason,
            type=chosen.type,
            task=chosen.reference,
            created_after=chosen.created_after,
            created_before=chosen.created_before,
        ),
        "rate": shown.rate,
        "count": shown.count,
        "done": shown.done,
        "skipped": shown.skipped,
        "eta_seconds": None if shown.state.ended else round(shown.left / shown.rate, 1),
        "position": None if shown.position is None else shown.position[0],
        "created_by": shown.created_by,
        "created_at": shown.created_at,
        "changed_at": shown.changed_at,
        "finished_at": shown.finished_at,
    }
