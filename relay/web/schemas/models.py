"""The catalogue."""

from __future__ import annotations

from typing import Any, Literal

from relay.web.schemas import common


class Model(common.Out):
    """A model of the catalogue. ``cost_estimate`` is the documented figure for its example."""

    slug: str
    title: str | None
    description: str | None
    output_kind: Literal["videos", "images"]
    cost_estimate: common.Money
    schema_complete: bool
    retired: bool


class ModelWithSchema(Model):
    """A model and what is known of its input; ``input_schema`` is ``null`` where nothing is."""

    example_input: dict[str, Any]
    input_schema: dict[str, Any] | None


class Models(common.Out):
    """The catalogue."""

    models: list[Model]
    next_cursor: str | None
