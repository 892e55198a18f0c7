"""One model, and models by slug. Read ``opening.py`` for where they come from.

How long a model takes is not documented anywhere and belongs to whoever needs a guess. What checks an
input comes with the models, so that nothing of it is loaded before one of them is asked for.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from relay.catalogue import faults, media

if TYPE_CHECKING:
    import jsonschema_rs

OutputKind = Literal["videos", "images"]
"""Which list the output carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue.

    ``cost_estimate`` is the figure shown for exactly ``example_input``, in a currency that is not
    stated. ``schema`` is the input's JSON Schema with its ``x-playground`` hints: whole where
    ``schema_complete``, otherwise the fragment that was seen, or ``None`` where none was. Titles
    repeat, slugs do not: messages name slugs. A ``retired`` model takes no new tasks; who serves
    it decides how that is said.
    """

    slug: str
    title: str | None
    description: str | None
    output_kind: OutputKind
    cost_estimate: Decimal
    example_input: Mapping[str, object]
    schema: Mapping[str, Any] | None
    schema_complete: bool
    retired: bool
    validator: jsonschema_rs.Draft202012Validator

    def faults(
        self, task_input: Mapping[str, object], *, data_uri_bytes_max: int = media.DATA_URI_BYTES_MAX
    ) -> list[faults.Fault]:
        """All that is wrong with ``task_input``, up to ``faults.FAULTS_MAX``; empty is good.

        Pointers are relative to the request body (``/input/duration``), and no value is repeated.
        ``task_input`` may be nested 250 deep at most, which the JSON parser has to see to.
        """
        found = itertools.chain(
            _against_schema(self, task_input),
            media.check(task_input, self.schema, bytes_max=data_uri_bytes_max),
        )
        return list(itertools.islice(found, faults.FAULTS_MAX))


def _against_schema(model: Model, task_input: Mapping[str, object]) -> Iterator[faults.Fault]:
    import jsonschema_rs  # loaded already: the validator is one of its

    for error in model.validator.iter_errors(dict(task_input)):
        place = ("input", *error.instance_path)
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            known = (model.schema or {}).get("properties", {}) if len(place) == 1 else ()
            # One error names them all; each gets its own pointer.
            for name in error.kind.unexpected:
                detail = faults.unknown_member(name, known)
                yield faults.Fault(detail, faults.pointer(*place, name))
        else:
            detail = f"{error.message[:1].upper()}{error.message[1:]}."
            yield faults.Fault(detail, faults.pointer(*place))


class Catalogue:
    """Models by slug, retired ones included, in the order in which they were read."""

    def __init__(self, read: Callable[[], Iterable[Model]]) -> None:
        """``read()`` gives the models; it is called once, at the first question."""
        self._read = read

    @functools.cached_property
    def _models(self) -> dict[str, Model]:
        return {model.slug: model for model in self._read()}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def find(self, slug: str) -> Model | None:
        """The model with exactly this slug."""
        return self._models.get(slug)

    def nearest(self, slug: str) -> list[str]:
        """Up to three slugs of models not retired that ``slug`` may have been meant to be, best first."""
        current = (model.slug for model in self if not model.retired)
        return faults.nearest(slug, current, count=3, cutoff=0.5)
