"""Submissions; ``record`` is what makes one succeed, in the transaction that stores its task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relay.domain import model
from relay.store import base
from relay.store.sql import batches, database, rows
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Submissions(Part):
    """``base.Submissions`` on a ``Database``."""

    async def open_submission(self, submission: model.Submission) -> model.Submission:
        """See ``base.Submissions.open_submission``."""
        parameters = rows.submission_parameters(submission)

        async def work(transaction: database.Transaction) -> model.Submission:
            if await transaction.fetch(QUERIES["insert_submission"], parameters):
                return submission
            found = await transaction.fetch(QUERIES["select_submission_by_client_key"], parameters)
            return rows.submission(found[0])

        return await self._database.transact(work)

    async def submission(self, submission_id: str) -> model.Submission | None:
        """See ``base.Submissions.submission``."""
        found = await self._database.read(QUERIES["select_submission"], {"id": submission_id})
        return rows.submission(found[0]) if found else None

    async def reject_submission(
        self, submission_id: str, *, now: float, request: bytes | None = None
    ) -> None:
        """See ``base.Submissions.reject_submission``."""
        parameters = {"id": submission_id, "now": now, "request": rows.exact(request)}
        await self._write(QUERIES["reject_submission"], parameters)

    async def leave_unresolved(self, submission_ids: Sequence[str]) -> None:
        """See ``base.Submissions.leave_unresolved``."""
        if submission_ids:
            named = batches.rows({"id": submission_id} for submission_id in submission_ids)
            await self._write(QUERIES["leave_unresolved"], named)

    async def submissions(
        self, state: model.SubmissionState | None, *, before: base.Position | None, limit: int
    ) -> base.Page[base.SubmissionSummary]:
        """See ``base.Submissions.submissions``."""
        before_at, before_id = before or (math.inf, "")
        parameters = {"state": state, "before_at": before_at, "before_id": before_id, "limit": limit + 1}
        statement = QUERIES["list_submissions"] if state is None else QUERIES["list_submissions_in_state"]
        found = [rows.submission_summary(row) for row in await self._database.read(statement, parameters)]
        page = found[:limit]
        last = page[-1] if len(found) > limit else None
        return base.Page(rows=page, next=None if last is None else (last.created_at, last.id))

    async def open_submissions(self) -> list[model.Submission]:
        """See ``base.Submissions.open_submissions``."""
        found = await self._database.read(QUERIES["list_pending_submissions"], {})
        return [rows.submission(row) for row in found]
