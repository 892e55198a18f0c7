"""Reads catalogues: the one shipped here, then the operator's files over it.

``models.json`` beside this module holds what the documentation shows and nothing else; most
schemas could be seen in part only. A file of the operator has the same shape,
``{"models": [{"slug": …, …}]}``: an entry for a new slug adds a model, one for a known slug
replaces it whole, and ``{"slug": …, "retired": true}`` alone retires it (``false`` takes that
back). Every mistake is an ``errors.ConfigurationError`` that names file, entry and place.

Schemas never make a request leave this machine: only references within themselves are followed.

Importing this brings the library that checks schemas, 8 MB of memory: see ``opening.py``.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn

import jsonschema_rs

from relay.catalogue import faults, models
from relay.domain import errors

_ENTRY: Final = {
    "type": "object",
    "properties": {
        "slug": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]{0,99}$"},
        "title": {"type": ["string", "null"]},
        "description": {"type": ["string", "null"]},
        "output_kind": {"enum": ["videos", "images"]},
        "cost_estimate": {"type": "number", "minimum": 0, "maximum": 1_000_000},
        "example_input": {"type": "object"},
        "input_schema": {"type": ["object", "null"]},
        "schema_complete": {"type": "boolean"},
        "retired": {"type": "boolean"},
    },
    "required": ["slug", "output_kind", "cost_estimate", "example_input"],
    "additionalProperties": False,
}
"""The schema of one entry of a file; members that are not required have the obvious default."""

_MARK: Final = {"slug", "retired"}
"""The members of an entry that only retires a known model, or takes that back."""

_FILE_MEMBERS: Final = {"about", "models"}

_entry_validator: Final = jsonschema_rs.Draft202012Validator(_ENTRY, mask="the value")


def load(extra: Sequence[Path] = (), retired: Collection[str] = ()) -> models.Catalogue:
    """The catalogue shipped here with the operator's files laid over it, in order.

    ``retired`` are slugs to retire besides. Reads files, a few milliseconds for the one shipped.
    Raises ``errors.ConfigurationError``.
    """
    shipped = importlib.resources.files(__package__).joinpath("models.json")
    found = _laid_over({}, shipped.read_text(encoding="utf-8"), file="models.json")
    for path in extra:
        found = _laid_over(found, _text(path), file=str(path))
    for slug in retired:
        if slug not in found:
            raise errors.ConfigurationError(f"there is no model {slug!r} to retire{_near(slug, found)}")
        found[slug] = dataclasses.replace(found[slug], retired=True)
    return models.Catalogue(found.values)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise errors.ConfigurationError(f"{path}: not UTF-8") from None
    except OSError as error:
        raise errors.ConfigurationError(f"{path}: {error.strerror or 'cannot be read'}") from None


def _laid_over(base: dict[str, models.Model], text: str, *, file: str) -> dict[str, models.Model]:
    """``base`` with the entries of one file added, replaced and marked."""
    found = dict(base)
    seen: set[str] = set()
    for number, entry in enumerate(_entries(text, file=file), start=1):
        slug = entry.get("slug") if isinstance(entry, dict) else None
        where = f"{file}: model {slug!r}" if isinstance(slug, str) else f"{file}: entry {number}"
        if isinstance(entry, dict) and entry.keys() == _MARK and isinstance(slug, str):
            model = _marked(entry, found, where=where)
        else:
            model = _model(entry, where=where)
        if model.slug in seen:
            raise errors.ConfigurationError(f"{where} is there twice")
        seen.add(model.slug)
        found[model.slug] = model
    return found


def _entries(text: str, *, file: str) -> list[object]:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise errors.ConfigurationError(f"{file}: not JSON: {error.msg} ({place})") from None
    except (ValueError, RecursionError) as error:
        raise errors.ConfigurationError(f"{file}: not usable JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("models"), list):
        raise errors.ConfigurationError(f'{file}: give an object with a list, {{"models": […]}}')
    for name in content.keys() - _FILE_MEMBERS:
        raise errors.ConfigurationError(f"{file}: unknown member {name!r}{_near(name, _FILE_MEMBERS)}")
    entries: list[object] = content["models"]
    return entries


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _marked(entry: dict[str, Any], found: dict[str, models.Model], *, where: str) -> models.Model:
    model = found.get(entry["slug"])
    if model is None:
        near = _near(entry["slug"], found)
        raise errors.ConfigurationError(f"{where} can be marked retired only where it is known{near}")
    if not isinstance(entry["retired"], bool):
        raise errors.ConfigurationError(f"{where}: /retired: give true or false")
    return dataclasses.replace(model, retired=entry["retired"])


def _model(entry: object, *, where: str) -> models.Model:
    for error in _entry_validator.iter_errors(entry):
        raise errors.ConfigurationError(f"{where}: {_entry_fault(error)}")
    assert isinstance(entry, dict)
    schema = entry.get("input_schema")
    complete = entry.get("schema_complete", False)
    if complete and schema is None:
        raise errors.ConfigurationError(f"{where}: /schema_complete: is true without an input_schema")
    model = models.Model(
        slug=entry["slug"],
        title=entry.get("title"),
        description=entry.get("description"),
        output_kind=entry["output_kind"],
        # The shortest text that means this float is what the file says, to the last decimal.
        cost_estimate=Decimal(repr(entry["cost_estimate"])),
        example_input=entry["example_input"],
        schema=schema,
        schema_complete=complete,
        retired=entry.get("retired", False),
        validator=_validator(schema, where=where),
    )
    for fault in model.faults(model.example_input):
        place = fault.pointer.removeprefix("/input")
        raise errors.ConfigurationError(
            f"{where}: /example_input{place}: does not suit the input_schema: {fault.detail}"
        )
    return model


def _entry_fault(error: jsonschema_rs.ValidationError) -> str:
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        name = str(error.kind.unexpected[0])[:80]
        return f"unknown member {name!r}{_near(name, _ENTRY['properties'])}"  # type: ignore[arg-type]
    place = faults.pointer(*error.instance_path)
    if place == "/slug" and isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Pattern):
        return "/slug: give 1 to 100 of a-z 0-9 . _ - and begin with a letter or digit"
    return f"{place}: {error.message}" if place else error.message


def _validator(schema: dict[str, Any] | None, *, where: str) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            schema or {"type": "object"},
            retriever=_refuse,  # the default one fetches http:// and file:// references
            mask="the value",  # messages must not repeat inputs
            validate_formats=True,
        )
    except ValueError as error:
        text = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        path = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else []
        place = faults.pointer("input_schema", *path)
        raise errors.ConfigurationError(f"{where}: {place}: {text}") from None


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"a schema may not refer to {uri}; put it under $defs")


def _near(name: str, known: Iterable[str]) -> str:
    near = faults.nearest(name, known)
    return f"; the nearest is {near[0]!r}" if near else ""
