"""What the shapes of several resources share: how times and money are written, strictness, paging."""

from __future__ import annotations

import datetime
import functools
import math
import re
from decimal import Decimal
from typing import Annotated, Final

import pydantic
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from relay.domain import model as domain

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
"""Rows in one page of a list."""

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

CHANGES: Final = tuple(domain.Change)
"""The order in which statuses are listed."""


def instant(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, with milliseconds: ``2026-11-23T01:02:03.456Z``."""
    second, thousandths = divmod(math.floor(at * 1000), 1000)
    return f"{_second(second)}.{thousandths:03d}Z"


def epoch(text: object) -> float:
    """The instant in ``text``, RFC 3339 with an offset, as epoch seconds. Raises ``ValueError``."""
    if not isinstance(text, str) or not _INSTANT.fullmatch(text):
        raise ValueError("must be an instant such as 2026-11-23T01:02:03Z")
    try:
        return datetime.datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("is no instant of the calendar") from None


def instant_or_none(at: float | None) -> str | None:
    """The same of what there may be none of."""
    return None if at is None else instant(at)


def money(amount: Decimal | None) -> float | None:
    """An amount, or that there is none, as a JSON number."""
    return None if amount is None else float(amount)


@functools.lru_cache(maxsize=64)  # most instants of an answer are of the last few seconds
def _second(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


Instant = Annotated[
    float,
    PlainSerializer(instant, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "format": "date-time"}),
]
GivenInstant = Annotated[
    float,
    pydantic.BeforeValidator(epoch),
    pydantic.WithJsonSchema({"type": "string", "format": "date-time"}),
]
Money = Annotated[
    Decimal, PlainSerializer(float, return_type=float), pydantic.WithJsonSchema({"type": "number"})
]


class In(BaseModel):
    """Something a caller sends. No coercion: ``"1"`` is not 1, and a typo is not ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Query(BaseModel):
    """A URL's query. All of it is text, so numbers are read from text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Out(BaseModel):
    """Something relay answers. Its members are trusted."""

    model_config = ConfigDict(hide_input_in_errors=True)


Word = Annotated[str, Field(min_length=1, max_length=200)]
Change = Annotated[domain.Change, Field(strict=False)]


class PageQuery(Query):
    """Which page of a list."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, Field(max_length=300)] | None = None
