"""Between relay's nouns and rows: one pair of functions per noun, and the encodings they share.

JSON and lists are kept as JSON text, money as the digits it was given in, bodies as the exact
UTF-8 text. A decoder takes the columns in the order in which the statements name them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import pydantic_core

from relay.domain import errors, ids, model
from relay.store import base
from relay.store.sql import database

TASK_COLUMNS: Final = 18
REGISTRATION_COLUMNS: Final = 5
EVENT_COLUMNS: Final = 8

_DEPTH: Final = 200
"""Nesting that the JSON reader takes. Deeper text could be written, but never be read again."""


def document(value: object) -> str | None:
    """``value`` as JSON text, ``None`` as NULL.

    Raises ``errors.StoreRejected`` if it cannot be written as JSON or could not be read again.
    ``Decimal`` becomes text, because JSON readers would round it.
    """
    if value is None:
        return None
    try:
        encoded = pydantic_core.to_json(value)
        if encoded.count(b"[") + encoded.count(b"{") >= _DEPTH:
            pydantic_core.from_json(encoded)
    except ValueError as error:
        raise errors.StoreRejected(f"the database cannot hold this JSON: {error}") from error
    return encoded.decode()


def parsed(text: str | None) -> Any:
    """The value that ``document`` was given."""
    return None if text is None else pydantic_core.from_json(text)


def exact(body: bytes | None) -> str | None:
    """``body`` as text. Raises ``errors.StoreRejected`` if it is not UTF-8."""
    try:
        return None if body is None else body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.StoreRejected("the database cannot hold this body: it is not UTF-8") from error


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@functools.lru_cache(maxsize=128)  # few sets are in use
def _statuses(statuses: frozenset[model.Change] | None) -> str | None:
    return None if statuses is None else document(sorted(statuses))


def _changes(text: str | None) -> frozenset[model.Change] | None:
    return None if text is None else frozenset(map(model.Change, parsed(text)))


def task_row(task: model.Task, *, expected_version: int | None) -> dict[str, object]:
    """A task to insert, or to update where it has ``expected_version``.

    Columns that are NULL are left out, which reads the same: most of a new task's are.
    """
    columns = {
        "id": task.id,
        "upstream": task.upstream,
        "task_id": task.task_id,
        "expected_version": expected_version,
        "version": task.version,
        "request_id": task.request_id,
        "model": task.model,
        "status": task.status,
        "verdict": task.verdict,
        "cost_estimate": _money(task.cost_estimate),
        "cost_actual": _money(task.cost_actual),
        "output": document(task.output),
        "error": document(task.error),
        "prompt": task.prompt,
        "cursor": task.cursor,
        "created_at": task.created_at,
        "submitted_at": task.submitted_at,
        "stalled_at": task.stalled_at,
        "finished_at": task.finished_at,
    }
    return {name: value for name, value in columns.items() if value is not None}


def task(row: database.Row) -> model.Task:
    """A task from its columns."""
    return model.Task(
        id=row[0],
        upstream=row[1],
        task_id=row[2],
        version=row[3],
        request_id=row[4],
        model=row[5],
        status=model.Status(row[6]),
        verdict=model.Verdict(row[7]),
        cost_estimate=_amount(row[8]),
        cost_actual=_amount(row[9]),
        output=parsed(row[10]),
        error=parsed(row[11]),
        prompt=row[12],
        cursor=row[13],
        created_at=row[14],
        submitted_at=row[15],
        stalled_at=row[16],
        finished_at=row[17],
    )


def watches(found: Iterable[database.Row]) -> dict[str, model.Watch]:
    """Tasks by id, in the order found, from rows that repeat the task for each registration."""
    tasks: dict[str, model.Task] = {}
    registrations: dict[str, list[model.Registration]] = {}
    for row in found:
        if row[0] not in tasks:
            tasks[row[0]] = task(row)
            registrations[row[0]] = []
        if row[TASK_COLUMNS] is not None:
            registrations[row[0]].append(registration(row[TASK_COLUMNS:]))
    for several in registrations.values():
        several.sort(key=lambda registration: (registration.created_at, registration.key_id))
    return {
        key: model.Watch(task=value, registrations=tuple(registrations[key])) for key, value in tasks.items()
    }


def views(found: Iterable[database.Row]) -> list[base.TaskView]:
    """Tasks for readers, from rows that end with the number of events."""
    collected = list(found)
    seen = {row[0]: row[TASK_COLUMNS + REGISTRATION_COLUMNS] for row in collected}
    return [
        base.TaskView(task=watch.task, registrations=watch.registrations, events_seen=seen[key])
        for key, watch in watches(collected).items()
    ]


def registration_row(task: str, registration: model.Registration) -> dict[str, object]:
    """A registration on ``task`` (relay's id)."""
    return {
        "task": task,
        "key_id": registration.key_id,
        "notify": document(registration.notify),
        "statuses": _statuses(registration.statuses),
        "metadata": document(registration.metadata),
        "created_at": registration.created_at,
    }


def registration(row: database.Row) -> model.Registration:
    """A registration from its columns."""
    return model.Registration(
        key_id=row[0],
        notify=tuple(parsed(row[1])),
        statuses=_changes(row[2]),
        metadata=parsed(row[3]),
        created_at=row[4],
    )


def event_row(task: str, event: model.Event, *, recorded_at: float) -> dict[str, object]:
    """An event of ``task`` (relay's id)."""
    return {
        "task": task,
        "key": event.key,
        "type": event.type,
        "status": event.snapshot.status,
        "timestamp": event.timestamp,
        "data": document(event.data),
        "recorded_at": recorded_at,
    }


def event(row: database.Row) -> base.StoredEvent:
    """An event as read back. Its id is derived, so that the same event keeps it for ever."""
    return base.StoredEvent(
        seq=row[0],
        id=ids.derive("evt", row[1], row[2]),
        task=row[1],
        type=row[3],
        status=None if row[4] is None else model.Status(row[4]),
        timestamp=row[5],
        data=parsed(row[6]),
        recorded_at=row[7],
    )


def change(row: database.Row) -> base.Change:
    """An event as read back, followed by its task's names."""
    return base.Change(event=event(row), upstream=row[EVENT_COLUMNS], task_id=row[EVENT_COLUMNS + 1])


def task_filters(where: base.TaskFilter) -> dict[str, object]:
    """The parameters of the filters that are put to a row; ``None`` lets all through."""
    metadata = [
        {"name": each.name, "text": document(each.value), "other": _as_written(each.value)}
        for each in where.metadata
    ]
    return {
        "key_id": where.key_id,
        "upstream": where.upstream,
        "status": where.status,
        "verdict": where.verdict,
        "model": where.model,
        "model_prefix": where.model_prefix,
        "pattern": None if where.text is None else _pattern(where.text),
        "metadata": document(metadata) if metadata else None,
    }


def _as_written(text: str) -> str | None:
    """``text`` as the JSON number or word that it may be meant as, ``None`` where it is neither."""
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return document(value) if isinstance(value, (bool, int, float)) else None


def _pattern(text: str) -> str:
    """A LIKE pattern, with ``~`` as its escape, for anything that holds ``text``."""
    return "%" + re.sub(r"[%_~]", r"~\g<0>", text) + "%"


def delivery_filters(where: base.DeliveryFilter) -> dict[str, object]:
    """As ``task_filters``."""
    return {
        "key_id": where.key_id,
        "state": where.state,
        "destination": where.destination,
        "task": where.task,
        "type": where.type,
        "reason": where.reason,
    }


def notification_row(notification: model.Notification) -> dict[str, object]:
    """A body to be sent byte for byte."""
    return {
        "id": notification.id,
        "format": notification.format,
        "type": notification.type,
        "body": exact(notification.body),
    }


def delivery_row(delivery: model.NewDelivery) -> dict[str, object]:
    """A new delivery: due at once, or leased to the caller with fence 1, or held."""
    leased = delivery.leased_until is not None
    state = model.DeliveryState.SENDING if leased else model.DeliveryState.PENDING
    if delivery.held is not None:
        state = model.DeliveryState.HELD
    return {
        "id": delivery.id,
        "task": delivery.task,
        "destination": delivery.destination,
        "type": delivery.type,
        "notification": delivery.notification.id,
        "state": state,
        "fence": 1 if leased else 0,
        "leased_until": delivery.leased_until,
        "next_attempt_at": delivery.created_at if state is model.DeliveryState.PENDING else None,
        "reason": delivery.held,
        "created_at": delivery.created_at,
    }


def delivery(row: database.Row) -> model.Delivery:
    """A delivery from its columns."""
    return model.Delivery(
        id=row[0],
        task=row[1],
        task_id=row[2],
        upstream=row[3],
        destination=row[4],
        type=row[5],
        state=model.DeliveryState(row[6]),
        attempts_made=row[7],
        attempts_base=row[8],
        unknowns_made=row[9],
        next_attempt_at=row[10],
        reason=row[11],
        created_at=row[12],
        delivered_at=row[13],
    )


def claim(row: database.Row) -> model.Claim:
    """A claim from the columns of a due delivery: its fence is the next one."""
    return model.Claim(
        delivery_id=row[0],
        destination=row[1],
        type=row[2],
        format=model.Format(row[3]),
        body=row[4].encode("utf-8"),
        fence=row[5] + 1,
        attempts_made=row[6],
        attempts_base=row[7],
        unknowns_made=row[8],
        created_at=row[9],
        redelivered_at=row[10],
        task_id=row[11],
        upstream=row[12],
    )


def outcome_row(attempt: base.AttemptWrite) -> dict[str, object]:
    """What an attempt does to its delivery."""
    delivered = attempt.outcome is model.Outcome.DELIVERED
    return {
        "delivery_id": attempt.delivery_id,
        "fence": attempt.fence,
        "outcome": attempt.outcome,
        "state": attempt.state,
        "unknowns": 1 if attempt.outcome is model.Outcome.UNKNOWN else 0,
        "next_attempt_at": attempt.next_attempt_at,
        "reason": attempt.delivery_reason or attempt.reason,
        "ended_at": attempt.started_at + attempt.duration_ms / 1000.0 if delivered else None,
    }


def attempt_row(attempt: base.AttemptWrite, *, number: int) -> dict[str, object]:
    """An attempt to keep."""
    return {
        "delivery_id": attempt.delivery_id,
        "number": number,
        "started_at": attempt.started_at,
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "status_code": attempt.status_code,
        "detail": attempt.detail,
    }


def attempt(row: database.Row) -> model.Attempt:
    """An attempt from its columns."""
    return model.Attempt(
        delivery_id=row[0],
        number=row[1],
        started_at=row[2],
        duration_ms=row[3],
        outcome=model.Outcome(row[4]),
        reason=row[5],
        status_code=row[6],
        detail=row[7],
    )


def key(row: database.Row) -> model.Key:
    """An API key from its columns."""
    return model.Key(
        id=row[0],
        name=row[1],
        role=model.Role(row[2]),
        enabled=bool(row[3]),
        created_at=row[4],
        last_used_at=row[5],
    )


def submission_parameters(submission: model.Submission) -> Mapping[str, object]:
    """A submission to insert."""
    return {
        "id": submission.id,
        "key_id": submission.key_id,
        "client_key": submission.client_key,
        "upstream": submission.upstream,
        "upstream_key": submission.upstream_key,
        "fingerprint": submission.fingerprint,
        "model": submission.model,
        "request": exact(submission.request),
        "notify": document(submission.notify),
        "statuses": _statuses(submission.statuses),
        "metadata": document(submission.metadata),
        "state": submission.state,
        "answer": exact(submission.answer),
        "created_at": submission.created_at,
        "key_made": int(submission.key_made),
        "request_whole": int(submission.request_whole),
    }


def submission(row: database.Row) -> model.Submission:
    """A submission from its columns."""
    return model.Submission(
        id=row[0],
        key_id=row[1],
        client_key=row[2],
        upstream=row[3],
        upstream_key=row[4],
        fingerprint=row[5],
        model=row[6],
        request=row[7].encode("utf-8"),
        notify=tuple(parsed(row[8])),
        statuses=_changes(row[9]),
        metadata=parsed(row[10]),
        state=model.SubmissionState(row[11]),
        answer=None if row[12] is None else row[12].encode("utf-8"),
        created_at=row[13],
        key_made=bool(row[14]),
        request_whole=bool(row[15]),
    )


def submission_summary(row: database.Row) -> base.SubmissionSummary:
    """A submission for readers from its columns."""
    return base.SubmissionSummary(
        id=row[0],
        key_id=row[1],
        client_key=row[2],
        key_made=bool(row[3]),
        upstream=row[4],
        upstream_key=row[5],
        model=row[6],
        state=model.SubmissionState(row[7]),
        created_at=row[8],
    )
