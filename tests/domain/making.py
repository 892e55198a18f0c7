"""Makers of domain values with everything a test does not care about filled in, and strategies."""

from __future__ import annotations

import random
from decimal import Decimal

import hypothesis
from hypothesis import strategies as st

from relay.domain import errors, model

steady = hypothesis.settings(deadline=None)
"""For properties: nothing here may fail because the machine is busy."""

CREATED_AT = 1_769_860_800.0  # 2026-01-31T12:00:00Z
OUTPUT = {"videos": [{"url": "https://example.com/output/demo.mp4"}]}
COST = Decimal("0.3294")
ENDS = (model.Status.SUCCEEDED, model.Status.FAILED, model.Status.CANCELLED)
END_CHANGES = frozenset(
    {model.Change.SUCCEEDED, model.Change.FAILED, model.Change.CANCELLED, model.Change.LOST}
)


class Highest(random.Random):
    """Always the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    """Always the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        return a


def task(**members: object) -> model.Task:
    """A task that was just created."""
    given: dict[str, object] = {
        "id": "tsk_a",
        "upstream": "mindvideo",
        "task_id": "task_demo_model",
        "created_at": CREATED_AT,
    }
    return model.Task(**{**given, **members})  # type: ignore[arg-type]


def snapshot(word: str | None = None, **members: object) -> model.Snapshot:
    """What a body with ``"status": word`` says; a word that is none of the five is unknown."""
    known = {status.value: status for status in model.Status}
    status = None if word is None else known.get(word)
    return model.Snapshot(status=status, raw_status=word, **members)  # type: ignore[arg-type]


def whole(word: str, **members: object) -> model.Snapshot:
    """An end that carries what it is worth."""
    return snapshot(word, **{"cost_actual": COST, "output": OUTPUT, **members})


def page(*snapshots: model.Snapshot) -> model.Page:
    """A look at the events endpoint that gave these, in this order."""
    events = tuple(
        model.Event(key=f"{i}", type="task.status", snapshot=one) for i, one in enumerate(snapshots)
    )
    return model.Page(events=events, cursor="next")


def endpoint(one: model.Snapshot) -> model.Page:
    """A look at the task endpoint."""
    return model.Page(snapshot=one, authoritative=True)


def claim(**members: object) -> model.Claim:
    """A delivery that was never attempted."""
    given: dict[str, object] = {
        "delivery_id": "msg_a",
        "destination": "renders",
        "type": "task.succeeded",
        "format": model.Format.WEBHOOK,
        "body": b"{}",
        "fence": 1,
        "attempts_made": 0,
        "attempts_base": 0,
        "unknowns_made": 0,
        "created_at": CREATED_AT,
    }
    return model.Claim(**{**given, **members})  # type: ignore[arg-type]


def failure(
    decision: errors.Decision = errors.Decision.RETRY, *, retry_after: float | None = None
) -> errors.SendError:
    """A failed send."""
    return errors.SendError(
        "it answered 503", reason="server_error", decision=decision, retry_after=retry_after
    )


snapshots = st.builds(
    snapshot,
    st.one_of(
        st.none(), st.sampled_from([*(status.value for status in model.Status), "rendering", "moderating"])
    ),
    request_id=st.sampled_from([None, "req_a"]),
    cost_actual=st.sampled_from([None, COST]),
    output=st.sampled_from([None, {"videos": []}, OUTPUT]),
    error=st.sampled_from([None, "node lost, trying again"]),
)
"""Any observation, sensible or not."""
