"""Creates that were sent on."""

from __future__ import annotations

from relay.domain import model as domain
from relay.web.schemas import common


class Submission(common.Out):
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
    created_at: common.Instant


class Submissions(common.Out):
    """A page of submissions, newest first."""

    submissions: list[Submission]
    next_cursor: str | None
