"""``/submissions``: creates that were sent on to an upstream. Only an admin comes here.

What an operator looks for are those that nobody knows the fate of.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from relay.domain import model
from relay.store import base as store_base
from relay.web import cursors, endpoints
from relay.web.schemas import common as common_schemas
from relay.web.schemas import submissions as schemas


class SubmissionsQuery(common_schemas.PageQuery):
    """Which submissions to list."""

    state: model.SubmissionState | None = None


async def list_submissions(call: endpoints.Call, *, query: SubmissionsQuery) -> web.Response:
    """List submissions, newest first.

    An `unresolved` one may have been created and charged: relay never learned. Asking again with the
    caller's `Idempotency-Key` is safe while the upstream remembers `upstream_key`, under which it was
    sent.
    """
    filters = cursors.digest({"state": query.state})
    before = cursors.row(query.cursor, prefix="sub", filters=filters)
    page = await call.services.store.submissions(query.state, before=before, limit=query.limit)
    return endpoints.answer(
        schemas.Submissions(
            submissions=[schemas.Submission(**_members(each)) for each in page.rows],
            next_cursor=None if page.next is None else cursors.of_row(*page.next, filters=filters),
        )
    )


def _members(submission: store_base.SubmissionSummary) -> dict[str, Any]:
    # A key that relay made says nothing to anybody but the caller who was told it.
    return {
        "id": submission.id,
        "key": submission.key_id,
        "idempotency_key": None if submission.key_made else submission.client_key,
        "upstream": submission.upstream,
        "upstream_key": submission.upstream_key,
        "model": submission.model,
        "state": submission.state,
        "created_at": submission.created_at,
    }


ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="GET",
        path=f"{endpoints.API}/submissions",
        handler=list_submissions,
        answers={200: schemas.Submissions},
        access=endpoints.Access.ADMIN,
    ),
)
