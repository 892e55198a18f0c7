"""What the engine knows of asking: the ``Upstream`` protocol. Adapters are siblings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from relay.domain import model

BAD_ANSWER: Final = "bad_answer"
"""Reason of a create that was answered with success but without a task id that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The upstream took a create.

    ``body`` is its answer as decoded JSON with unknown members kept; ``status_code`` its HTTP
    status; ``replayed`` says that it was an answer given before to the same key.
    """

    task_id: str
    snapshot: model.Snapshot
    body: dict[str, object]
    status_code: int
    replayed: bool = False


class Upstream(Protocol):
    """One configured generation API and its credential."""

    @property
    def name(self) -> str:
        """The configured name."""

    async def create(self, request: bytes, *, idempotency_key: str) -> Created:
        """Submit ``request`` (the exact JSON body) once, under ``idempotency_key``.

        Raises ``errors.UpstreamRejected`` for a definite refusal (nothing was created; with the
        reason ``BAD_ANSWER`` something may have been, and asking again would not tell),
        ``errors.UpstreamUnauthorized`` for 401/403, and ``errors.UpstreamTransient`` when it is
        unknown whether it was created: asking again with the same key is then right.
        """
        ...

    async def poll(self, task_id: str, *, cursor: str | None, validator: str | None) -> model.Page:
        """What happened after ``cursor``; a page without news when nothing did.

        ``validator`` is the last page's, or ``None``. Falls back to the task endpoint where the
        upstream has no events. Raises ``errors.TaskNotFound`` only when the task endpoint itself
        answers 404, ``errors.UpstreamUnauthorized`` and ``errors.UpstreamTransient``.
        """
        ...

    async def fetch(self, task_id: str) -> model.Snapshot:
        """The task body from the task endpoint, the authority on terminal statuses.

        Raises as ``poll`` does.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...
