"""What is wanted of a task, and the registrations that hold it."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Final, Literal

import pydantic
import pydantic_core
from pydantic import Field

from relay.domain import model as domain
from relay.web import reading
from relay.web.schemas import common

METADATA_MAX: Final = 4096
"""Bytes of a registration's metadata, written as compact JSON."""

REGISTRATIONS_MAX: Final = 1000
"""Tasks that one request may register."""

NAME_MAX: Final = 200
"""Characters of a destination's name that are looked at; no real one has more than 63."""

URL_MAX: Final = 4096
"""Characters of a URL: Slack's have 80, signed ones some hundreds."""

METADATA_TOO_LARGE: Final = f"must not be over {METADATA_MAX} bytes of JSON"


def over_metadata_max(metadata: dict[str, object] | None) -> bool:
    """Whether ``metadata`` is larger than may be kept."""
    return metadata is not None and len(pydantic_core.to_json(metadata)) > METADATA_MAX


def _small(metadata: dict[str, object] | None) -> dict[str, object] | None:
    if over_metadata_max(metadata):
        raise ValueError(METADATA_TOO_LARGE)
    return metadata


class InlineDestination(common.In):
    """A URL to tell, where no destination of that kind has a name.

    A webhook is signed with ``secret``; without one by a key that is made for it, whose public half
    the destination's ``public-key`` route answers.
    """

    url: Annotated[str, Field(min_length=1, max_length=URL_MAX)]
    secret: common.Word | None = None


def _whom(value: object) -> str | InlineDestination:
    """An item of ``notify``: the name of a destination, a URL, or an object with one."""
    if isinstance(value, dict):
        return InlineDestination.model_validate(value)
    if not isinstance(value, str):
        raise ValueError("must be the name of a destination, a URL, or an object with url")
    if "://" in value:
        return InlineDestination.model_validate({"url": value})
    if not 0 < len(value) <= NAME_MAX:
        raise ValueError(f"must have 1 to {NAME_MAX} characters")
    return value


_WHOM_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": NAME_MAX},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "minLength": 1, "maxLength": URL_MAX},
                "secret": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
            },
        },
    ]
}

Whom = Annotated[
    str | InlineDestination, pydantic.PlainValidator(_whom), pydantic.WithJsonSchema(_WHOM_SCHEMA)
]
Notify = Annotated[list[Whom], Field(max_length=reading.NOTIFY_MAX)]
Statuses = Annotated[list[common.Change], Field(min_length=1, max_length=50)]
Metadata = Annotated[dict[str, object], pydantic.AfterValidator(_small)]


class Wishes(common.In):
    """What a caller wants to be told about a task.

    ``notify`` names destinations, or URLs where the operator permits that; none means that the routes
    decide. ``statuses`` overrides the destinations' own; ``metadata`` comes back in every notification.
    """

    notify: Notify | None = None
    statuses: Statuses | None = None
    metadata: Metadata | None = None

    def changes(self) -> frozenset[domain.Change] | None:
        """``statuses`` as the engine takes them."""
        return None if self.statuses is None else frozenset(self.statuses)


class NewRegistration(Wishes):
    """One of many: a task as in a path, its id or ``upstream:id``, and what is wanted of it."""

    task: Annotated[str, Field(min_length=1, max_length=300)]
    metadata: dict[str, object] | None = None  # too large a one is this task's result, not everybody's


class NewRegistrations(common.In):
    """Tasks to be registered."""

    tasks: Annotated[list[NewRegistration], Field(min_length=1, max_length=REGISTRATIONS_MAX)]


class Registration(common.Out):
    """A registration; ``key`` is the id of the API key that made it."""

    key: str
    notify: list[str]
    statuses: list[domain.Change] | None
    metadata: dict[str, Any] | None


class Refusal(common.Out):
    """The members of the problem (RFC 9457) that a request for this alone would have met."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] | None = None


class RegistrationResult(common.Out):
    """What became of one of many; ``task`` is as it was named. ``error`` is there when it is refused."""

    task: str
    result: Literal["created", "updated", "refused"]
    id: str | None = None
    status: domain.Status | None = None
    verdict: domain.Verdict | None = None
    error: Refusal | None = None


class Registrations(common.Out):
    """A result for each task, in the order in which they were named."""

    registrations: list[RegistrationResult]


@functools.lru_cache(maxsize=128)  # hashing an enumeration's members is slow, and few sets are in use
def _in_order(statuses: frozenset[domain.Change]) -> list[str]:
    return [change.value for change in common.CHANGES if change in statuses]


def members(of: domain.Registration) -> dict[str, object]:
    """``Registration`` as it is written."""
    return {
        "key": of.key_id,
        "notify": of.notify,
        "statuses": None if of.statuses is None else _in_order(of.statuses),
        "metadata": of.metadata,
    }
