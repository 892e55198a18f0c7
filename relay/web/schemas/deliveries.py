"""What is owed to destinations, and every try at it."""

from __future__ import annotations

from typing import Any

from relay.domain import model as domain
from relay.web.schemas import common


class Delivery(common.Out):
    """A status change owed to a destination."""

    id: str
    task_id: str | None
    upstream: str | None
    destination: str
    type: str
    state: domain.DeliveryState
    attempts_made: int
    next_attempt_at: common.Instant | None
    reason: str | None
    created_at: common.Instant
    delivered_at: common.Instant | None


class Attempt(common.Out):
    """One try at telling."""

    number: int
    started_at: common.Instant
    duration_ms: float
    outcome: domain.Outcome
    reason: str | None
    status_code: int | None
    detail: str | None


class DeliveryWithAttempts(Delivery):
    """A delivery and every try, first to last."""

    attempts: list[Attempt]


class Deliveries(common.Out):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None


def delivery_members(delivery: domain.Delivery) -> dict[str, Any]:
    """The members of ``Delivery``."""
    return {name: getattr(delivery, name) for name in Delivery.model_fields}


def attempt(made: domain.Attempt) -> Attempt:
    """An attempt as it is shown."""
    members = {name: getattr(made, name) for name in Attempt.model_fields}
    return Attempt(**members | {"duration_ms": round(made.duration_ms, 1)})
