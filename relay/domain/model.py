"""The nouns of relay as frozen values. Read ``lifecycle.py`` next: it is what changes them.

Times are epoch seconds (UTC) as floats. Money is ``Decimal``. Foreign JSON (``output``,
``error``, ``data``) is kept as decoded Python values and is never mutated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The five statuses of the relayed API (seed: "the platform maps runtime states into…")."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a task in this status has ended."""
        return self in TERMINAL


TERMINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


class Verdict(StrEnum):
    """What relay concludes about a task, beside what the upstream says of it."""

    RUNNING = "running"
    ENDED = "ended"
    STALLED = "stalled"
    """The deadline passed. Told once; relay keeps asking, slowly."""
    LOST = "lost"
    """The upstream no longer knows the task. Told like an end; the watch is over."""

    @property
    def final(self) -> bool:
        """Whether relay has stopped asking."""
        return self in (Verdict.ENDED, Verdict.LOST)


class Change(StrEnum):
    """A status change that can be told: the five statuses and relay's own two."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STALLED = "stalled"
    LOST = "lost"

    @property
    def type(self) -> str:
        """The notification's type, ``task.succeeded`` and so on."""
        return f"task.{self.value}"


HEARD_BY_DEFAULT: Final = frozenset(
    {Change.SUCCEEDED, Change.FAILED, Change.CANCELLED, Change.LOST, Change.STALLED}
)
"""What a destination hears when nobody says otherwise: every end, and a stall."""


SCHEDULE: Final = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds before each attempt, counted from the attempt before it (Standard Webhooks 1.0.0)."""

RETRY_AFTER_MAX: Final = 3600.0
"""A peer may ask for at most an hour: longer waits are the schedule's business."""

PASSED: Final = frozenset({Change.QUEUED, Change.PROCESSING, Change.STALLED})
"""Changes that a task's end makes old news: those of them that are not told yet never are."""


class Format(StrEnum):
    """How a notification is written. One body per change, format and metadata."""

    WEBHOOK = "webhook"
    """Standard Webhooks JSON, signed over the exact bytes."""
    CHAT = "chat"
    """Title and text for chat and mail (see ``wording.py``), cut to the channel by the sender."""


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    HELD = "held"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPERSEDED = "superseded"


class Outcome(StrEnum):
    """How one attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    UNKNOWN = "unknown"
    DISABLE = "disable"
    """The answer says that the destination itself is gone: it is disabled, and what it is owed is held."""


class Source(StrEnum):
    """Where a destination is defined."""

    CONFIGURATION = "configuration"
    """By the operator; never copied into the database, and not changed by API."""
    API = "api"
    """Made by API, kept in the database with its secrets encrypted."""
    INLINE = "inline"
    """Made by a registration that named a URL; it belongs to the API key that did."""


class HoldReason(StrEnum):
    """Why a delivery is held instead of sent."""

    PAUSED = "paused"
    """Somebody paused its destination."""
    DISABLED = "disabled"
    """Its destination failed for too long, or said that it is gone."""
    DESTINATION_MISSING = "destination_missing"
    """Its destination is not known (any more)."""


class Role(StrEnum):
    """What an API key may do."""

    ADMIN = "admin"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of one upstream, unique by (``upstream``, ``task_id``).

    ``version`` is compared and set by every writer. ``cursor`` is opaque to all but the adapter
    that made it; ``None`` means from the beginning. ``finished_at`` is set exactly when the
    verdict is final, ``stalled_at`` once a stall was told.
    """

    id: str
    upstream: str
    task_id: str
    version: int = 0
    request_id: str | None = None
    model: str | None = None
    status: Status = Status.QUEUED
    verdict: Verdict = Verdict.RUNNING
    cost_estimate: Decimal | None = None
    cost_actual: Decimal | None = None
    output: object = None
    error: object = None
    prompt: str | None = None
    cursor: str | None = None
    created_at: float
    submitted_at: float | None = None
    stalled_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a task body says: of the task endpoint, or carried inside an event.

    ``status`` is ``None`` when the body names none. ``raw_status`` is the upstream's own word,
    kept so that an unknown one can be reported. Absent members are ``None``.
    """

    status: Status | None = None
    raw_status: str | None = None
    request_id: str | None = None
    model: str | None = None
    cost_estimate: Decimal | None = None
    cost_actual: Decimal | None = None
    output: object = None
    error: object = None

    @property
    def unknown_status(self) -> bool:
        """A status was named, but it is none of the five."""
        return self.raw_status is not None and self.status is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a task, as the upstream's adapter read it.

    ``key`` identifies the event within its task for storage: upstream id plus content hash, or
    content hash plus occurrence where there is no id. ``id`` is the upstream's own id or ``None``.
    ``timestamp`` is epoch seconds or ``None``. ``data`` is the event as decoded JSON.
    """

    key: str
    type: str
    id: str | None = None
    timestamp: float | None = None
    data: object = None
    snapshot: Snapshot = field(default_factory=Snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one look at an upstream's events gave.

    ``events`` are those after the cursor, in the upstream's order. ``snapshot`` is set when the
    upstream answered with a task body instead of, or around, events. ``authoritative`` says that
    ``snapshot`` comes from the task endpoint. ``cursor`` is to be stored once the events are;
    ``validator`` (an ETag or digest) is for the next look and lives in memory only.
    """

    events: tuple[Event, ...] = ()
    snapshot: Snapshot | None = None
    authoritative: bool = False
    cursor: str | None = None
    validator: str | None = None

    @property
    def news(self) -> bool:
        """Whether there is anything that was not there at the last look."""
        return bool(self.events) or self.snapshot is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What one API key wants to be told about one task.

    ``notify`` are destination names; empty means that the routes decide at the moment of the
    change. ``statuses`` overrides the destinations' own; ``None`` leaves it to them. ``metadata``
    is a JSON object handed back in every notification, or ``None``.
    """

    key_id: str
    notify: tuple[str, ...] = ()
    statuses: frozenset[Change] | None = None
    metadata: dict[str, object] | None = None
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A task with every registration on it, oldest first: what folding and routing start from."""

    task: Task
    registrations: tuple[Registration, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The public half of a destination: what routing needs. The URL stays with the sender.

    ``owner`` is the id of the API key that an inline destination belongs to, otherwise ``None``.
    """

    name: str
    format: Format
    statuses: frozenset[Change] | None = None
    prompt: bool = True
    source: Source = Source.CONFIGURATION
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationOptions:
    """How a destination is told, beside where. No member is a secret.

    ``statuses`` is what it hears, ``None`` what everybody does. ``schedule`` holds the seconds before
    each attempt; its length is the budget. ``timeout`` (seconds) and ``concurrency`` (sends at once)
    of ``None`` are the sender's own. ``rate`` is in deliveries per second, ``None`` without a limit.
    ``age_max`` is the age in seconds at which a delivery is given up, counted from when it was made or
    last asked for again; ``None`` never.
    ``retry_after_max`` caps what a peer may ask relay to wait, seconds.
    """

    statuses: frozenset[Change] | None = None
    prompt: bool = True
    schedule: tuple[float, ...] = SCHEDULE
    timeout: float | None = None
    concurrency: int | None = None
    rate: float | None = None
    age_max: float | None = None
    retry_after_max: float = RETRY_AFTER_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What relay remembers of a destination beside its definition: a row for each that has a history.

    ``version`` grows with every change. ``failing_since`` is when the first of the failures in a row
    was, and never moves while they go on; ``failing`` are the deliveries that failed since, each once
    and no more than matter. ``warned`` is the last share of the window that the operator was told of,
    percent, and ``warned_at`` is when; ``None`` where that was not noted. Times are epoch seconds.
    """

    destination: str
    version: int = 0
    paused_at: float | None = None
    disabled_at: float | None = None
    disabled_reason: str | None = None
    failing_since: float | None = None
    failing: tuple[str, ...] = ()
    warned: int = 0
    warned_at: float | None = None

    @property
    def hold_reason(self) -> HoldReason | None:
        """Why nothing is sent to it; ``None`` when everything is."""
        if self.disabled_at is not None:
            return HoldReason.DISABLED
        return None if self.paused_at is None else HoldReason.PAUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``[[routes]]``: whom to tell about tasks whose registration names no destination.

    ``None`` matches everything. ``status`` holds changes (globs over ``Change``), ``model`` a glob
    over the model's slug.
    """

    notify: tuple[str, ...]
    status: tuple[str, ...] | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """The stored body of one change in one format: sent byte for byte, however often."""

    id: str
    format: Format
    type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery to be stored together with the change that caused it.

    ``id`` is derived (``ids.delivery_id``), so storing it twice makes one row. With ``leased_until``
    the dispatcher has a seat free and the row starts as ``sending`` with fence 1; with ``held`` its
    destination takes nothing now and the row starts as ``held`` for that reason. ``task`` is as in
    ``Delivery``; ``task_id`` and ``upstream`` are not stored with it, they go into the log.
    """

    id: str
    task: str | None
    destination: str
    type: str
    notification: Notification
    created_at: float
    leased_until: float | None = None
    held: HoldReason | None = None
    task_id: str | None = None
    upstream: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One status change owed to one destination; the table of these is the outbox.

    ``task`` is relay's id of the task or ``None`` for test sends and operator notices;
    ``task_id`` and ``upstream`` are then ``None`` too. ``attempts_made`` counts for ever;
    ``attempts_base`` is its value when the current budget began (a redelivery starts a new one);
    ``unknowns_made`` counts unknown outcomes within the budget.
    """

    id: str
    task: str | None
    task_id: str | None
    upstream: str | None
    destination: str
    type: str
    state: DeliveryState
    attempts_made: int
    attempts_base: int
    unknowns_made: int
    next_attempt_at: float | None
    reason: str | None
    created_at: float
    delivered_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that the dispatcher holds a lease on, with everything needed to send it.

    ``format`` is what ``body`` was composed as; the destination may have become another kind since.
    ``redelivered_at`` is when somebody last asked for it again, ``None`` for never.
    ``task_id`` and ``upstream`` are ``None`` for what tells of no task.
    """

    delivery_id: str
    destination: str
    type: str
    format: Format
    body: bytes
    fence: int
    attempts_made: int
    attempts_base: int
    unknowns_made: int
    created_at: float
    task_id: str | None = None
    upstream: str | None = None
    redelivered_at: float | None = None

    def too_old(self, age_max: float | None, *, at: float) -> bool:
        """Whether it is not wanted any more at an instant. Who asks for it again wants it once more."""
        since = self.created_at if self.redelivered_at is None else self.redelivered_at
        return age_max is not None and at - since > age_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at telling: ``number`` counts from 1 and is given by the store when recorded.

    ``detail`` is at most 500 characters, cleaned, without secrets, or ``None``.
    """

    delivery_id: str
    number: int
    started_at: float
    duration_ms: float
    outcome: Outcome
    reason: str | None = None
    status_code: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key without its secret. ``id`` is public and part of the key's text."""

    id: str
    name: str
    role: Role
    enabled: bool
    created_at: float
    last_used_at: float | None = None


class SubmissionState(StrEnum):
    """Where a create that was forwarded to an upstream stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A create, stored with the key it is sent under before it is sent.

    ``client_key`` is the caller's ``Idempotency-Key`` or ``None``; ``upstream_key`` is relay's
    own random one and never changes. ``fingerprint`` is SHA-256 of canonical ``{model, input}``.
    ``key_made`` says that relay made the client key, because the caller sent none. ``request`` is
    the exact body for the upstream where ``request_whole``; otherwise large data URIs are only named
    in it, and it cannot be sent. ``answer`` is the body first answered to the caller, once succeeded.
    """

    id: str
    key_id: str
    client_key: str | None
    upstream: str
    upstream_key: str
    fingerprint: str
    model: str
    request: bytes
    notify: tuple[str, ...]
    statuses: frozenset[Change] | None
    metadata: dict[str, object] | None
    state: SubmissionState
    answer: bytes | None
    created_at: float
    key_made: bool = False
    request_whole: bool = True
