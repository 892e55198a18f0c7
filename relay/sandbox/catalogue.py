"""The models that the sandbox offers, and whether an input suits one of them.

``models.json`` beside this module holds what the documentation shows and nothing else: slug,
title, one example input, the cost shown for exactly that input (its currency is not stated),
which list the output carries, and the input's JSON Schema. Most schemas could be seen in part
only; ``schema_complete`` tells them apart. Titles repeat, slugs do not: messages name slugs.

Schemas never make a request leave this machine: references are refused. How long a model takes
is not documented and is decided in ``rules.py``.
"""

from __future__ import annotations

import difflib
import importlib.resources
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import jsonschema_rs

from relay.sandbox import problems

OutputKind = Literal["videos", "images"]

_SLUG_COMPARED_MAX: Final = 80
"""Characters of an unknown slug that are compared: the comparison takes quadratic time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue.

    ``cost_estimate`` is the figure shown for ``example_input``. ``input_schema`` is whole where
    ``schema_complete``, otherwise the fragment that was seen, or ``None`` where none was.
    """

    slug: str
    title: str | None
    description: str | None
    output_kind: OutputKind
    cost_estimate: float
    example_input: Mapping[str, object]
    schema_complete: bool
    input_schema: dict[str, Any] | None
    validator: jsonschema_rs.Draft202012Validator

    def faults(self, task_input: Mapping[str, object]) -> list[problems.Fault]:
        """What is wrong with ``task_input``, ``problems.FAULTS_MAX`` of it at most; empty is good.

        ``task_input`` may be nested 250 deep at most, which the JSON parser sees to.
        """
        found = _faults(self.validator.iter_errors(dict(task_input)))
        return list(itertools.islice(found, problems.FAULTS_MAX))


def _faults(errors: Iterable[jsonschema_rs.ValidationError]) -> Iterator[problems.Fault]:
    for error in errors:
        place = ("input", *error.instance_path)
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            # One error names them all; each gets its own pointer.
            for name in error.kind.unexpected:
                yield problems.Fault("This member is not known here.", problems.pointer(*place, name))
        else:
            yield problems.Fault(f"{error.message[:1].upper()}{error.message[1:]}.", problems.pointer(*place))


def _refuse(uri: str) -> NoReturn:
    """A retriever that refuses: the default one fetches ``http://`` and ``file://`` references."""
    raise ValueError(f"schemas may not refer to {uri}")


class Catalogue:
    """Models by slug."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.slug: model for model in models}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def find(self, slug: str) -> Model | None:
        """The model with exactly this slug."""
        return self._models.get(slug)

    def nearest(self, slug: str) -> list[str]:
        """Up to three slugs that ``slug`` may have been meant to be, best first."""
        return difflib.get_close_matches(slug[:_SLUG_COMPARED_MAX], self._models, n=3, cutoff=0.5)


def _model(facts: dict[str, Any]) -> Model:
    return Model(
        **facts,
        validator=jsonschema_rs.Draft202012Validator(
            facts["input_schema"] or {"type": "object"},
            retriever=_refuse,
            mask="the value",  # messages must not repeat inputs
        ),
    )


def parse(text: str) -> Catalogue:
    """A catalogue from the text of a file like ``models.json``.

    Raises ``ValueError`` where a schema is none or refers to something outside itself.
    """
    return Catalogue(_model(facts) for facts in json.loads(text)["models"])


def load() -> Catalogue:
    """The catalogue shipped with this package. Takes a few milliseconds."""
    return parse(importlib.resources.files(__package__).joinpath("models.json").read_text(encoding="utf-8"))
