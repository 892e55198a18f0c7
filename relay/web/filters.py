"""The filters of lists, as a caller writes them in a query, and what they mean to the store.

Every list is newest first and is read in pages. A page looks at a bounded number of rows, so one
that is filtered may be short, even empty, and still have a ``next_cursor``: the list goes on there.
A cursor belongs to its filters; with others it is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from relay.domain import model as domain
from relay.store import base as store_base
from relay.web import cursors
from relay.web.schemas import common as schemas

METADATA_MAX: Final = 5
"""Members of metadata that one query may name: each is looked up in every row that is looked at."""

TEXT_MAX: Final = 100
"""Characters of a text that is searched for."""

_METADATA: Final = "metadata."
_MEMBER: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
"""Names that every engine reads alike in a path."""


def _epoch(text: object) -> float:
    if isinstance(text, str) and " " in text:
        raise ValueError("must be an instant without spaces: a + is written %2B in a query")
    return schemas.epoch(text)


Instant = Annotated[
    float,
    pydantic.BeforeValidator(_epoch),
    pydantic.WithJsonSchema({"type": "string", "format": "date-time"}),
]
MetadataFilters = Annotated[
    dict[str, Annotated[str, Field(max_length=500)]],
    Field(max_length=METADATA_MAX),
    pydantic.WithJsonSchema(
        {
            "type": "object",
            "description": "`metadata.NAME=VALUE`: only tasks whose registration has this member, a text or "
            "a number as it was given, at the top of its metadata.",
            "patternProperties": {rf"^metadata\.{_MEMBER}$": {"type": "string", "maxLength": 500}},
            "additionalProperties": False,
            "maxProperties": METADATA_MAX,
        }
    ),
]


class TasksQuery(schemas.PageQuery):
    """Which tasks to list, newest first."""

    status: domain.Status | None = None
    verdict: domain.Verdict | None = None
    model: Annotated[
        schemas.Word | None,
        Field(description="Only tasks of this model; with a `*` at its end, of models that begin so."),
    ] = None
    upstream: schemas.Word | None = None
    text: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=TEXT_MAX,
            description="Only tasks with this in their id, request id, model or prompt.",
        ),
    ] = None
    created_after: Annotated[
        Instant | None, Field(description="Only those since, this instant included.")
    ] = None
    created_before: Annotated[Instant | None, Field(description="Only those before this instant.")] = None
    metadata: MetadataFilters = Field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _collect_metadata(cls, given: Any) -> Any:
        """Put ``metadata.NAME`` parameters together; any other spelling stays, and is refused."""
        if not isinstance(given, dict):
            return given
        named = {name for name in given if re.fullmatch(re.escape(_METADATA) + _MEMBER, name, re.ASCII)}
        if not named or "metadata" in given:
            return given
        rest = {name: value for name, value in given.items() if name not in named}
        rest["metadata"] = {name.removeprefix(_METADATA): given[name] for name in sorted(named)}
        return rest

    def where(self, key_id: str | None) -> store_base.TaskFilter:
        """As the store takes it, for the tasks that ``key_id`` registered (``None``: for all)."""
        glob = self.model is not None and self.model.endswith("*")
        return store_base.TaskFilter(
            key_id=key_id,
            upstream=self.upstream,
            status=self.status,
            verdict=self.verdict,
            model=None if glob else self.model,
            model_prefix=self.model[:-1] if glob and self.model is not None else None,
            metadata=tuple(store_base.Member(name=k, value=v) for k, v in self.metadata.items()),
            text=self.text,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class DeliveriesQuery(schemas.PageQuery):
    """Which deliveries to list, newest first. ``task`` is a task as in a path: its id, or ``upstream:id``."""

    state: domain.DeliveryState | None = None
    destination: schemas.Word | None = None
    task: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    type: Annotated[
        schemas.Word | None, Field(description="Only those of this type, `task.failed` and so on.")
    ] = None
    reason: Annotated[schemas.Word | None, Field(description="Only those whose last attempt failed so.")] = (
        None
    )
    created_after: Annotated[
        Instant | None, Field(description="Only those since, this instant included.")
    ] = None
    created_before: Annotated[Instant | None, Field(description="Only those before this instant.")] = None

    def where(self, key_id: str | None, *, task: str | None) -> store_base.DeliveryFilter:
        """As the store takes it. ``task`` is relay's id of the task that is named."""
        return store_base.DeliveryFilter(
            key_id=key_id,
            state=self.state,
            destination=self.destination,
            task=task,
            type=self.type,
            reason=self.reason,
            created_after=self.created_after,
            created_before=self.created_before,
        )


def position(query: schemas.PageQuery, *, prefix: str) -> store_base.Position | None:
    """Where the page begins. Raises ``problems.Problem`` 422 for a cursor of another list."""
    return cursors.row(query.cursor, prefix=prefix, filters=_digest(query))


def next_cursor(query: schemas.PageQuery, page: store_base.Page[Any]) -> str | None:
    """The cursor of the page after ``page``; ``None`` where the list ends."""
    return None if page.next is None else cursors.of_row(*page.next, filters=_digest(query))


def _digest(query: schemas.PageQuery) -> str:
    return cursors.digest(query.model_dump(mode="json", exclude={"cursor", "limit"}))
