"""Facts for the store's tests, made short: a task, a write of it, a delivery, an attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from relay.domain import ids, model
from relay.store import base

NOW = 1_700_000_000.0
UPSTREAM = "mindvideo"
KEY = "key_alice"
OTHER_KEY = "key_bob"


def task(name: str, **changes: object) -> model.Task:
    """A new task of ``UPSTREAM`` whose upstream id is ``name``."""
    made = model.Task(id=ids.derive("tsk", name), upstream=UPSTREAM, task_id=name, created_at=NOW)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def registration(key_id: str = KEY, *notify: str, **changes: object) -> model.Registration:
    made = model.Registration(key_id=key_id, notify=notify or ("renders",), created_at=NOW)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def new(name: str, *, register: model.Registration | None = None, **changes: object) -> base.TaskWrite:
    """The write that adds a task, registered by ``KEY`` unless told otherwise."""
    return base.TaskWrite(
        task=task(name, **changes),
        expected_version=None,
        register=register or registration(),
        recorded_at=NOW,
    )


def event(key: str, **changes: object) -> model.Event:
    made = model.Event(key=key, type="status", timestamp=NOW, data={"key": key})
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def delivery(
    name: str | None,
    destination: str = "renders",
    *,
    status: str = "succeeded",
    created_at: float = NOW,
    leased_until: float | None = None,
) -> model.NewDelivery:
    """A delivery of a change of the task named so, or of no task."""
    body = f'{{"task":"{name}","text":"é 火 \\u0000"}}'.encode()
    return model.NewDelivery(
        id=ids.delivery_id(UPSTREAM, name or "", status, destination),
        task=None if name is None else ids.derive("tsk", name),
        destination=destination,
        type=f"task.{status}",
        notification=model.Notification(
            id=ids.derive("ntf", name or "", status),
            format=model.Format.WEBHOOK,
            type=f"task.{status}",
            body=body,
        ),
        created_at=created_at,
        leased_until=leased_until,
    )


def ended(before: model.Task, *, at: float = NOW, **changes: object) -> model.Task:
    """``before``, one version later and succeeded."""
    made = dataclasses.replace(
        before,
        version=before.version + 1,
        status=model.Status.SUCCEEDED,
        verdict=model.Verdict.ENDED,
        output={"videos": [{"url": "https://cdn.example/v.mp4"}]},
        finished_at=at,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def end(
    before: model.Task,
    *,
    deliveries: Sequence[model.NewDelivery] = (),
    events: Sequence[model.Event] = (),
    at: float = NOW,
) -> base.TaskWrite:
    """The write that ends a task."""
    return base.TaskWrite(
        task=ended(before, at=at),
        expected_version=before.version,
        events=events,
        deliveries=deliveries,
        recorded_at=at,
    )


def attempt(delivery_id: str, fence: int, outcome: model.Outcome, **changes: object) -> base.AttemptWrite:
    """An outcome with the state that usually follows from it."""
    state = {
        model.Outcome.DELIVERED: model.DeliveryState.DELIVERED,
        model.Outcome.DEAD: model.DeliveryState.DEAD,
    }.get(outcome, model.DeliveryState.PENDING)
    made = base.AttemptWrite(
        delivery_id=delivery_id,
        fence=fence,
        started_at=NOW,
        duration_ms=250.0,
        outcome=outcome,
        state=state,
        next_attempt_at=NOW + 60.0 if state is model.DeliveryState.PENDING else None,
        reason=None if outcome is model.Outcome.DELIVERED else "http_status",
        status_code=200 if outcome is model.Outcome.DELIVERED else 500,
        detail=None,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def submission(name: str, *, key_id: str = KEY, client_key: str | None = None) -> model.Submission:
    return model.Submission(
        id=f"sub_{name}",
        key_id=key_id,
        client_key=client_key,
        upstream=UPSTREAM,
        upstream_key=f"relay-{name}",
        fingerprint="0" * 64,
        model="veo3-fast",
        request=b'{"model":"veo3-fast","input":{"prompt":"\xc3\xa9"}}',
        notify=("renders",),
        statuses=frozenset({model.Change.SUCCEEDED}),
        metadata={"order": 7},
        state=model.SubmissionState.PENDING,
        answer=None,
        created_at=NOW,
    )
