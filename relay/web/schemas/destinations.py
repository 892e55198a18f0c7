"""Whom relay tells: destinations as they are made, changed and shown.

What is secret comes in and never goes out, but for the secret that relay itself made, once.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from relay.domain import ids
from relay.domain import model as domain
from relay.web.schemas import common, registrations

OVERLAP_DEFAULT: Final = 86_400.0
"""Seconds for which the secret before still signs: a day to bring the new one to the receiver."""


def _name(text: str) -> str:
    if not ids.is_name(text):
        raise ValueError("a name looks like [a-z][a-z0-9_]{0,62}")
    return text


Name = Annotated[
    str,
    pydantic.AfterValidator(_name),
    pydantic.WithJsonSchema({"type": "string", "pattern": r"^[a-z][a-z0-9_]{0,62}$"}),
]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]


class DestinationOptions(common.In):
    """How a destination is told; ``null`` is the default of its kind.

    ``schedule`` holds seconds before each attempt, from the one before. ``rate`` is deliveries per
    second, ``age_max`` the seconds after which what is still owed is given up.
    """

    statuses: registrations.Statuses | None = None
    prompt: bool | None = None
    schedule: Annotated[list[Delay], Field(min_length=1, max_length=50)] | None = None
    timeout: Seconds | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    rate: Rate | None = None
    age_max: Seconds | None = None
    retry_after_max: Seconds | None = None
    headers: Annotated[dict[str, Text], Field(max_length=20)] | None = None


class NewDestination(DestinationOptions):
    """A destination to be made.

    ``url`` is http(s) for a signed webhook, otherwise Apprise's. A webhook without ``secret`` and
    ``signing_key`` gets a secret made for it, which the answer shows this once.
    """

    name: Name
    url: Text
    secret: Text | None = None
    signing_key: Text | None = None


class ChangedDestination(DestinationOptions):
    """What is to be different; members that are left out stay, options that are ``null`` go back to default.

    ``headers`` take the place of all that there were.
    """

    url: Text | None = None
    signing_key: Text | None = None


class Resumption(common.In):
    """Which of the held deliveries are sent: all, the newest of each task, or none of them."""

    which: Literal["all", "newest", "none"] = "all"


class Rotation(common.In):
    """``secret`` is the new one, made where it is left out; ``overlap`` is how long the old one signs too."""

    secret: Text | None = None
    overlap: Annotated[float, Field(ge=0, le=90 * 86_400, allow_inf_nan=False, strict=False)] = (
        OVERLAP_DEFAULT
    )


class Destination(common.Out):
    """A destination. ``address`` is all of its URL that may be shown; ``statuses`` is what it hears.

    ``signatures`` are the schemes a webhook is signed with, ``old_until`` is when a secret that was rotated
    away stops signing beside the new one. ``owner`` is the id of the API key that an inline destination
    belongs to. What is shown of its options is what is in force, chosen or by default.
    """

    name: str
    source: domain.Source
    owner: str | None
    format: domain.Format
    service: str
    address: str
    statuses: list[domain.Change]
    prompt: bool
    schedule: list[float]
    timeout: float | None
    concurrency: int
    rate: float | None
    age_max: float | None
    retry_after_max: float
    headers: list[str]
    signatures: list[Literal["v1", "v1a"]]
    old_until: common.Instant | None
    state: Literal["active", "paused", "disabled"]
    paused_at: common.Instant | None
    disabled_at: common.Instant | None
    disabled_reason: str | None
    failing_since: common.Instant | None
    problem: str | None


class DestinationWithSecret(Destination):
    """A new destination. ``secret`` is there where relay made it, and is shown this once."""

    secret: str | None = None


class Destinations(common.Out):
    """All destinations, by name."""

    destinations: list[Destination]
    next_cursor: str | None


class Resumed(Destination):
    """A destination that is told again, and what became of what was held."""

    released: int
    superseded: int
    dropped: int
    restored: int


class Secret(common.Out):
    """The secret that signs from now on, shown this once; the one before signs too until ``old_until``."""

    secret: str
    old_until: common.Instant | None


class PublicKey(common.Out):
    """What a ``v1a`` signature is verified with (``whpk_…``)."""

    public_key: str
