"""What must survive, as the engine and the web see it: the ``Store`` protocol.

Every method that writes is one transaction, takes a list, and answers in the order of that list.
Callers never see ``BEGIN``. Every writer of a task goes through ``record`` (or ``write``): it compares
and sets ``tasks.version``, and who loses reads again, folds again and routes again.

All methods raise ``errors.StoreUnavailable`` when the database cannot do it, and
``errors.StoreRejected`` when it refuses a value; nothing is then written. Where one of many may be
bad the answer holds the error instead. Times are epoch seconds. Destinations have their part of it
in ``destinations.py``, redeliveries in ``redeliveries.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from relay.domain import errors, model
from relay.store import destinations, redeliveries

Row = TypeVar("Row")

Position = tuple[float, str]
"""Where a row stands in a list: (``created_at``, ``id``). Lists are read from the greatest down."""


class Resolution(NamedTuple):
    """The success of a create: the answer first given, and the request as it is to be kept.

    ``request`` of ``None`` keeps the request as it was stored.
    """

    submission: str
    answer: bytes
    request: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWrite:
    """One fact about one task, stored whole or not at all.

    ``task`` is the task as it shall be, its ``version`` already the new one.
    ``expected_version`` is the version it was made from, ``None`` for a task that is new.
    ``events`` are added unless their key is known. ``register`` adds or replaces the registration
    of its key, ``unregister`` removes the one of that key id. ``deliveries`` are added unless
    their id is known. ``resolve`` marks its submission succeeded. ``supersede`` says that the task
    has ended: what is pending or held of its earlier changes (queued, processing, stalled) is
    superseded, reason ``newer_told``.
    """

    task: model.Task
    expected_version: int | None
    events: Sequence[model.Event] = ()
    register: model.Registration | None = None
    unregister: str | None = None
    deliveries: Sequence[model.NewDelivery] = ()
    resolve: Resolution | None = None
    supersede: bool = False
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A ``TaskWrite`` that won. ``deliveries`` are the ids that were new."""

    deliveries: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as read back. ``id`` is relay's (``evt_…``), ``seq`` grows with every event stored."""

    seq: int
    id: str
    task: str
    type: str
    status: model.Status | None
    timestamp: float | None
    data: object
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task for readers: with its registrations and how many events are stored."""

    task: model.Task
    registrations: tuple[model.Registration, ...]
    events_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """Due deliveries of ``destination``: up to ``fresh`` that were never attempted, then up to ``limit``
    others of any kind."""

    destination: str
    limit: int
    fresh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWrite:
    """How one attempt ended.

    ``fence`` is the claim's. A delivered outcome is recorded even when the lease was lost; any
    other outcome is not. ``next_attempt_at`` is set exactly when ``state`` is pending.

    ``reason`` is the attempt's and the delivery's, unless ``delivery_reason`` says otherwise of the latter.

    What it did to its destination is stored with it: ``health`` unless a newer one is stored,
    ``notices`` unless their id is known. ``hold`` makes all that is pending for the destination held for
    that reason; it needs ``health``, and does nothing if a newer one is stored.
    """

    delivery_id: str
    fence: int
    started_at: float
    duration_ms: float
    outcome: model.Outcome
    state: model.DeliveryState
    next_attempt_at: float | None
    reason: str | None
    status_code: int | None
    detail: str | None
    delivery_reason: str | None = None
    health: model.Health | None = None
    notices: Sequence[model.NewDelivery] = ()
    hold: model.HoldReason | None = None


class Settled(NamedTuple):
    """An ``AttemptWrite`` that was applied.

    ``number`` is the attempt's, from 1. ``state`` is the delivery's: not what was written where that was to
    be tried again and its task ended meanwhile. It is superseded then, or delivered if it had arrived before.
    """

    number: int
    state: model.DeliveryState


Write = TaskWrite | AttemptWrite
"""What is written all day, and together."""

Written = Recorded | Settled | None
"""The answer for a ``TaskWrite`` as ``Tasks.record`` gives it; for an ``AttemptWrite`` ``None`` if the lease
was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A stored event with its task's names: what a reader of all tasks needs."""

    event: StoredEvent
    upstream: str
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a registration's metadata: its name (``[A-Za-z_][A-Za-z0-9_-]*``) and value.

    ``value`` is compared with text as it is, and with a number or a word of JSON as it is written.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list; ``None`` does not narrow. ``key_id`` keeps to what that key registered.

    ``model`` is a whole slug, ``model_prefix`` its beginning. ``metadata`` are members that one
    registration has all of: of ``key_id``'s where that is given. ``text`` is part of the task id,
    the request id, the model or the prompt, upper and lower case (of ASCII) alike.
    ``created_after`` includes its instant, ``created_before`` does not.
    """

    key_id: str | None = None
    upstream: str | None = None
    status: model.Status | None = None
    verdict: model.Verdict | None = None
    model: str | None = None
    model_prefix: str | None = None
    metadata: tuple[Member, ...] = ()
    text: str | None = None
    created_after: float | None = None
    created_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries to list; ``None`` does not narrow. Instants are as in ``TaskFilter``.

    ``key_id`` keeps to deliveries of tasks that this key registered and named the destination of,
    or that its registration's routes led to: in short, of tasks it sees. ``task`` is relay's id.
    """

    key_id: str | None = None
    state: model.DeliveryState | None = None
    destination: str | None = None
    task: str | None = None
    type: str | None = None
    reason: str | None = None
    created_after: float | None = None
    created_before: float | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Part of a list, newest first.

    ``next`` is the position that the next page lies before, ``None`` at the end. A page may hold
    fewer rows than asked for and still have a next one: a page looks at a bounded number of rows.
    """

    rows: list[Row]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionSummary:
    """A submission for readers, without its request and answer. The members are ``model.Submission``'s."""

    id: str
    key_id: str
    client_key: str | None
    key_made: bool
    upstream: str
    upstream_key: str
    state: model.SubmissionState
    model: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What the janitor may delete: rows older than these instants.

    Submissions go by themselves, whatever becomes of their tasks: they are the memory of
    idempotency keys.
    """

    tasks_before: float
    events_before: float
    attempts_before: float
    submissions_before: float


class Tasks(Protocol):
    """Tasks, registrations, events."""

    async def record(self, writes: Sequence[TaskWrite]) -> list[Recorded | errors.StoreRejected | None]:
        """Store each write that wins its compare-and-set; ``None`` for those that lost.

        Of several writes of one task in one call the first is tried, the others lose. The answer
        for a write that the database refuses is the error, to be raised for that caller alone; the
        others are stored.
        """
        ...

    async def watches(self, references: Sequence[tuple[str, str]]) -> list[model.Watch | None]:
        """The tasks named by (upstream, task id), with every registration; ``None`` where unknown."""
        ...

    async def running(self, *, after: str | None, limit: int) -> list[model.Watch]:
        """Tasks to be watched (not final, registered by somebody), by ``task.id``, after ``after``."""
        ...

    async def task(self, upstream: str, task_id: str) -> TaskView | None:
        """One task for readers."""
        ...

    async def tasks(self, where: TaskFilter, *, before: Position | None, limit: int) -> Page[TaskView]:
        """Newest first by (``created_at``, ``id``), up to ``limit`` of those before that position."""
        ...

    async def events(self, task: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Events of relay's task id ``task`` with ``seq`` greater than ``after``, in order."""
        ...

    async def last_event(self) -> int:
        """The greatest ``seq`` stored, 0 where there is none."""
        ...

    async def changes(
        self, *, after: int, upto: int, limit: int, key_id: str | None = None, task: str | None = None
    ) -> list[Change]:
        """Events with ``after`` < ``seq`` <= ``upto``, in that order, which is the order of commits.

        ``key_id`` narrows to tasks that this key is registered on, ``task`` (relay's id) to one.
        Looks at every event in between: callers bound the distance unless ``task`` is given.
        """
        ...

    async def watchers(self, tasks: Collection[str]) -> dict[str, frozenset[str]]:
        """The key ids that are registered on each of these tasks (relay's ids)."""
        ...


class Deliveries(Protocol):
    """The outbox."""

    async def add_deliveries(self, deliveries: Sequence[model.NewDelivery]) -> list[bool]:
        """Add deliveries that belong to no task change; ``False`` where the id was there."""
        ...

    async def claim(
        self, requests: Sequence[ClaimRequest], *, now: float, leased_until: float
    ) -> list[model.Claim]:
        """Lease due deliveries and give each a new fence. Of each kind the oldest due come first."""
        ...

    async def record_attempts(
        self, attempts: Sequence[AttemptWrite]
    ) -> list[int | errors.StoreRejected | None]:
        """Store outcomes; each answer is the attempt's number (from 1), ``None`` if the lease was lost.

        The answer for an outcome that the database refuses is the error, as with ``record``.
        """
        ...

    async def release(self, leases: Sequence[tuple[str, int]], *, now: float) -> None:
        """Give back (delivery id, fence) leases that were not used: pending and due again, uncounted."""
        ...

    async def give_up(self, leases: Sequence[tuple[str, int]], *, reason: str) -> None:
        """End (delivery id, fence) leases that were not used: dead for that reason, with no attempt.

        One that arrived before and was not tried since it was redelivered is delivered again instead.
        """
        ...

    async def void_leases(self, *, now: float) -> int:
        """Make everything that is ``sending`` pending and due. For the start, when no other process sends."""
        ...

    async def expire_leases(self, *, now: float, sparing: Collection[str] = ()) -> int:
        """Make ``sending`` rows whose lease is past pending and due again, but for the ids in ``sparing``."""
        ...

    async def shift_due(self, *, seconds: float) -> int:
        """The clock was set back by ``seconds``: bring due times and leases forward by as much; how many."""
        ...

    async def due(self) -> dict[str, float]:
        """Per destination with pending deliveries, the earliest ``next_attempt_at``."""
        ...

    async def hold_unconfigured(
        self, configured: Collection[str], *, now: float, rate: float | None = None
    ) -> tuple[int, int]:
        """Hold pending deliveries of destinations not in ``configured`` (reason ``destination_missing``),
        and make those held for that reason whose destination is back pending, oldest first: due at
        once, or ``rate`` per second of each destination. Returns how many were (held, released)."""
        ...

    async def redeliver(self, delivery_id: str, *, now: float) -> model.Delivery | None:
        """Make it pending and due with a fresh budget, whatever its state; ``None`` if unknown.

        One whose destination is paused or disabled is held for that reason instead. One that is being
        sent right now is left alone. Returned as it is then. Should one that had arrived be called off
        (superseded, given up untried, not resumed) it is delivered again, as long as its attempts are kept.
        """
        ...

    async def delivery(self, delivery_id: str) -> model.Delivery | None:
        """One delivery."""
        ...

    async def attempts(self, delivery_id: str) -> list[model.Attempt]:
        """Its attempts, first to last."""
        ...

    async def deliveries(
        self, where: DeliveryFilter, *, before: Position | None, limit: int
    ) -> Page[model.Delivery]:
        """Newest first by (``created_at``, ``id``), up to ``limit`` of those before that position."""
        ...

    async def count_deliveries(self) -> Mapping[tuple[str, model.DeliveryState], int]:
        """Rows per (destination, state) for states other than delivered and superseded. For metrics."""
        ...


class Keys(Protocol):
    """API keys. The secret's hash goes in, never the secret."""

    async def create_key(self, key: model.Key, *, secret_hash: bytes) -> None:
        """Store a new key."""
        ...

    async def key(self, key_id: str) -> tuple[model.Key, bytes] | None:
        """The key and the hash of its secret."""
        ...

    async def keys(self) -> list[model.Key]:
        """All keys, oldest first."""
        ...

    async def enable_key(self, key_id: str, *, enabled: bool) -> model.Key | None:
        """Enable or disable; ``None`` if unknown."""
        ...

    async def delete_key(self, key_id: str) -> bool:
        """Delete the key. Its registrations stay, so what it was promised is still told."""
        ...

    async def touch_keys(self, used_at: Mapping[str, float]) -> None:
        """Note last uses by key id; older instants than the stored one are ignored."""
        ...


class Submissions(Protocol):
    """Creates forwarded to an upstream, stored before they are sent."""

    async def open_submission(self, submission: model.Submission) -> model.Submission:
        """Store it, or return the one that has the same (``key_id``, ``client_key``) already.

        Submissions without a client key never collide.
        """
        ...

    async def submission(self, submission_id: str) -> model.Submission | None:
        """One submission."""
        ...

    async def reject_submission(
        self, submission_id: str, *, now: float, request: bytes | None = None
    ) -> None:
        """A definite refusal: the row stays as ``rejected`` and releases its client key.

        ``request`` replaces the stored one, ``None`` keeps it.
        """
        ...

    async def leave_unresolved(self, submission_ids: Sequence[str]) -> None:
        """Mark as ``unresolved``: nobody knows whether it was created, and relay stopped asking."""
        ...

    async def submissions(
        self, state: model.SubmissionState | None, *, before: Position | None, limit: int
    ) -> Page[SubmissionSummary]:
        """Newest first by (``created_at``, ``id``), those before that position; ``None``: in any state."""
        ...

    async def open_submissions(self) -> list[model.Submission]:
        """All that are ``pending``, oldest first. For the start."""
        ...


class Store(
    Tasks,
    Deliveries,
    destinations.Destinations,
    redeliveries.Redeliveries,
    Keys,
    Submissions,
    Protocol,
):
    """Everything, on one database."""

    async def write(self, writes: Sequence[Write]) -> list[Written | errors.StoreRejected]:
        """``record`` and ``record_attempts`` in one commit, which costs about as much as for either.

        An outcome is answered with what it made of its delivery, too.
        """
        ...

    async def check(self) -> None:
        """Raise ``errors.StoreUnavailable`` unless the database can be read and written."""
        ...

    async def purge(self, retention: Retention, *, limit: int) -> int:
        """Delete up to ``limit`` rows of each kind that are past their time; how many went.

        A task goes only when it is final (or nobody is registered on it) and owes nothing.
        """
        ...

    async def backup(self, path: str) -> None:
        """Write a consistent copy of the whole database to ``path``, which must not exist."""
        ...

    async def aclose(self) -> None:
        """Close connections and locks. Idempotent."""
        ...
