"""What an upstream told of a task, as pages and as server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from relay.domain import model as domain
from relay.store import base as store_base
from relay.web.schemas import common


class EventsQuery(common.Query):
    """After which event."""

    cursor: Annotated[str, Field(max_length=300)] | None = None


class ChangesQuery(EventsQuery):
    """From where on to stream."""

    cursor: Annotated[
        str | None,
        Field(max_length=300, description="The id of an event to go on behind; without it, from now on."),
    ] = None


class Event(common.Out):
    """An event of a task as the upstream told it."""

    id: str
    type: str
    status: domain.Status | None
    timestamp: common.Instant | None
    data: Any


class StreamedEvent(Event):
    """The data of one server-sent event: an event, and the task that it is of."""

    task_id: str
    upstream: str


def event(stored: store_base.StoredEvent) -> Event:
    """An event as it is shown."""
    return Event(
        id=stored.id, type=stored.type, status=stored.status, timestamp=stored.timestamp, data=stored.data
    )
