"""The shapes of the API: what comes in (strict, unknown members refused) and what goes out.

Handlers name these in their signatures, so a description of the API can be made from them. Times go
out as RFC 3339 UTC with milliseconds, money as JSON numbers, members that do not apply as ``null``.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import pydantic
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from relay.domain import model as domain
from relay.store import base as store_base
from relay.web import reading

METADATA_MAX: Final = 4096
"""Bytes of a registration's metadata, written as compact JSON."""

REGISTRATIONS_MAX: Final = 1000
"""Tasks that one request may register."""

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
"""Rows in one page of a list."""

CHANGES: Final = tuple(domain.Change)
"""The order in which statuses are listed."""


def instant(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, with milliseconds: ``2026-11-23T01:02:03.456Z``."""
    second, thousandths = divmod(math.floor(at * 1000), 1000)
    return f"{_second(second)}.{thousandths:03d}Z"


@functools.lru_cache(maxsize=64)  # most instants of an answer are of the last few seconds
def _second(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


Instant = Annotated[
    float,
    PlainSerializer(instant, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "format": "date-time"}),
]
Money = Annotated[
    Decimal, PlainSerializer(float, return_type=float), pydantic.WithJsonSchema({"type": "number"})
]


class _In(BaseModel):
    """Something a caller sends. No coercion: ``"1"`` is not 1, and a typo is not ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Query(BaseModel):
    """A URL's query. All of it is text, so numbers are read from text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Out(BaseModel):
    """Something relay answers. Its members are trusted."""

    model_config = ConfigDict(hide_input_in_errors=True)


Word = Annotated[str, Field(min_length=1, max_length=200)]
Change = Annotated[domain.Change, Field(strict=False)]


METADATA_TOO_LARGE: Final = f"must not be over {METADATA_MAX} bytes of JSON"


def over_metadata_max(metadata: dict[str, object] | None) -> bool:
    """Whether ``metadata`` is larger than may be kept."""
    return metadata is not None and len(pydantic_core.to_json(metadata)) > METADATA_MAX


def _small(metadata: dict[str, object] | None) -> dict[str, object] | None:
    if over_metadata_max(metadata):
        raise ValueError(METADATA_TOO_LARGE)
    return metadata


Notify = Annotated[list[Word], Field(max_length=reading.NOTIFY_MAX)]
Statuses = Annotated[list[Change], Field(min_length=1, max_length=50)]
Metadata = Annotated[dict[str, object], pydantic.AfterValidator(_small)]


class Wishes(_In):
    """What a caller wants to be told about a task.

    ``notify`` names destinations; none means that the routes decide. ``statuses`` overrides the
    destinations' own; ``metadata`` comes back in every notification.
    """

    notify: Notify | None = None
    statuses: Statuses | None = None
    metadata: Metadata | None = None

    def changes(self) -> frozenset[domain.Change] | None:
        """``statuses`` as the engine takes them."""
        return None if self.statuses is None else frozenset(self.statuses)


class NewRegistration(Wishes):
    """One of many: a task as in a path, its id or ``upstream:id``, and what is wanted of it."""

    task: Annotated[str, Field(min_length=1, max_length=300)]
    metadata: dict[str, object] | None = None  # too large a one is this task's result, not everybody's


class NewRegistrations(_In):
    """Tasks to be registered."""

    tasks: Annotated[list[NewRegistration], Field(min_length=1, max_length=REGISTRATIONS_MAX)]


OURS: Final = ("notify", "statuses", "metadata", "upstream")
"""Members of a create that are relay's own; all others but ``model`` and ``input`` go on to the upstream."""


class NewTask(Wishes):
    """A create, as the relayed API takes it, plus what relay is to do about it.

    Members that are not named here are passed on to the upstream.
    """

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    model: Word
    input: dict[str, object]
    upstream: Word | None = None

    def foreign(self) -> dict[str, object]:
        """The members to pass on."""
        return dict(self.model_extra or {})


class NewKey(_In):
    """An API key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    role: Annotated[domain.Role, Field(strict=False)] = domain.Role.CLIENT


class PageQuery(Query):
    """Which page of a list."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, Field(max_length=300)] | None = None


class EventsQuery(Query):
    """After which event."""

    cursor: Annotated[str, Field(max_length=300)] | None = None


class ChangesQuery(EventsQuery):
    """From where on to stream."""

    cursor: Annotated[
        str | None,
        Field(max_length=300, description="The id of an event to go on behind; without it, from now on."),
    ] = None


class Registration(_Out):
    """A registration; ``key`` is the id of the API key that made it."""

    key: str
    notify: list[str]
    statuses: list[domain.Change] | None
    metadata: dict[str, Any] | None


class Relay(_Out):
    """What relay itself knows of a task."""

    id: str
    upstream: str
    model: str | None
    verdict: domain.Verdict
    registrations: list[Registration]
    created_at: Instant
    finished_at: Instant | None
    last_polled_at: Instant | None
    next_poll_at: Instant | None
    events_seen: int


class Task(_Out):
    """The relayed API's own task body, plus ``relay``. ``error`` is there only when there is one."""

    request_id: str | None
    task_id: str
    status: domain.Status
    cost_estimate: Money | None
    cost_actual: Money | None
    output: Any
    error: Any = None
    relay: Relay


class Tasks(_Out):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next_cursor: str | None


class Event(_Out):
    """An event of a task as the upstream told it."""

    id: str
    type: str
    status: domain.Status | None
    timestamp: Instant | None
    data: Any


class StreamedEvent(Event):
    """The data of one server-sent event: an event, and the task that it is of."""

    task_id: str
    upstream: str


class TaskEvents(Task):
    """A task with its events after the cursor. ``next_cursor`` is for asking again, at any time."""

    events: list[Event]
    next_cursor: str


class Created(_Out):
    """The relayed API's answer to a create."""

    model_config = ConfigDict(extra="allow")

    request_id: str | None
    task_id: str
    status: domain.Status
    cost_estimate: float | None


class Refusal(_Out):
    """The members of the problem (RFC 9457) that a request for this alone would have met."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] | None = None


class RegistrationResult(_Out):
    """What became of one of many; ``task`` is as it was named. ``error`` is there when it is refused."""

    task: str
    result: Literal["created", "updated", "refused"]
    id: str | None = None
    status: domain.Status | None = None
    verdict: domain.Verdict | None = None
    error: Refusal | None = None


class Registrations(_Out):
    """A result for each task, in the order in which they were named."""

    registrations: list[RegistrationResult]


class Model(_Out):
    """A model of the catalogue. ``cost_estimate`` is the documented figure for its example."""

    slug: str
    title: str | None
    description: str | None
    output_kind: Literal["videos", "images"]
    cost_estimate: Money
    schema_complete: bool
    retired: bool


class ModelWithSchema(Model):
    """A model and what is known of its input; ``input_schema`` is ``null`` where nothing is."""

    example_input: dict[str, Any]
    input_schema: dict[str, Any] | None


class Models(_Out):
    """The catalogue."""

    models: list[Model]
    next_cursor: str | None


class Submission(_Out):
    """A create that was sent on. ``key`` is the id of the API key it came with.

    ``idempotency_key`` is its caller's own, ``null`` where the caller sent none; ``upstream_key`` is
    the one under which it was sent on.
    """

    id: str
    key: str
    idempotency_key: str | None
    upstream: str
    upstream_key: str
    model: str
    state: domain.SubmissionState
    created_at: Instant


class Submissions(_Out):
    """A page of submissions, newest first."""

    submissions: list[Submission]
    next_cursor: str | None


class Destination(_Out):
    """A destination. ``address`` is all of its URL that may be shown; ``statuses`` is what it hears."""

    name: str
    format: domain.Format
    address: str
    statuses: list[domain.Change]
    prompt: bool
    source: str


class Destinations(_Out):
    """All destinations, by name."""

    destinations: list[Destination]
    next_cursor: str | None


class Delivery(_Out):
    """A status change owed to a destination."""

    id: str
    task_id: str | None
    upstream: str | None
    destination: str
    type: str
    state: domain.DeliveryState
    attempts_made: int
    next_attempt_at: Instant | None
    reason: str | None
    created_at: Instant
    delivered_at: Instant | None


class Attempt(_Out):
    """One try at telling."""

    number: int
    started_at: Instant
    duration_ms: float
    outcome: domain.Outcome
    reason: str | None
    status_code: int | None
    detail: str | None


class DeliveryWithAttempts(Delivery):
    """A delivery and every try, first to last."""

    attempts: list[Attempt]


class Deliveries(_Out):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None


class Key(_Out):
    """An API key without its secret."""

    id: str
    name: str
    role: domain.Role
    enabled: bool
    created_at: Instant
    last_used_at: Instant | None


class KeyWithSecret(Key):
    """A new API key: ``key`` is shown this once."""

    key: str


class Keys(_Out):
    """All API keys, oldest first."""

    keys: list[Key]
    next_cursor: str | None


class Health(_Out):
    """The answer of a probe that is well."""

    status: str


class Index(_Out):
    """What answers here."""

    name: str
    api: str


@functools.lru_cache(maxsize=128)  # hashing an enumeration's members is slow, and few sets are in use
def _in_order(statuses: frozenset[domain.Change]) -> list[domain.Change]:
    return [change for change in CHANGES if change in statuses]


def registration(of: domain.Registration) -> Registration:
    """A registration as it is shown."""
    statuses = None if of.statuses is None else _in_order(of.statuses)
    return Registration(key=of.key_id, notify=list(of.notify), statuses=statuses, metadata=of.metadata)


def task_members(
    task: domain.Task,
    registrations: Sequence[domain.Registration],
    *,
    events_seen: int,
    last_polled_at: float | None,
    next_poll_at: float | None,
) -> dict[str, Any]:
    """The members of ``Task``, without ``error`` where there is none."""
    members: dict[str, Any] = {
        "request_id": task.request_id,
        "task_id": task.task_id,
        "status": task.status,
        "cost_estimate": task.cost_estimate,
        "cost_actual": task.cost_actual,
        "output": task.output,
        "relay": Relay(
            id=task.id,
            upstream=task.upstream,
            model=task.model,
            verdict=task.verdict,
            registrations=[registration(each) for each in registrations],
            created_at=task.created_at,
            finished_at=task.finished_at,
            last_polled_at=last_polled_at,
            next_poll_at=next_poll_at,
            events_seen=events_seen,
        ),
    }
    if task.error is not None:
        members["error"] = task.error
    return members


def event(stored: store_base.StoredEvent) -> Event:
    """An event as it is shown."""
    return Event(
        id=stored.id, type=stored.type, status=stored.status, timestamp=stored.timestamp, data=stored.data
    )


def delivery_members(delivery: domain.Delivery) -> dict[str, Any]:
    """The members of ``Delivery``."""
    return {name: getattr(delivery, name) for name in Delivery.model_fields}


def attempt(made: domain.Attempt) -> Attempt:
    """An attempt as it is shown."""
    members = {name: getattr(made, name) for name in Attempt.model_fields}
    return Attempt(**members | {"duration_ms": round(made.duration_ms, 1)})


def key_members(key: domain.Key) -> dict[str, Any]:
    """The members of ``Key``."""
    return {name: getattr(key, name) for name in Key.model_fields}
