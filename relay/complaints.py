"""What is wrong with a setting, in one line that names its place and the nearest key, and no value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def explain(
    error: Any, root: type[BaseModel], *, origins: Mapping[tuple[str, ...], str], path: Path | None
) -> str:
    """One line for an error of pydantic's about ``root``: where it is, and what to do.

    ``origins`` names the source of each value that is not from the file at ``path``.
    """
    loc = tuple(str(part) for part in error["loc"])
    found = _origin(loc, origins)
    where = found or ": ".join(part for part in (str(path or ""), ".".join(loc)) if part)
    if error["type"] == "extra_forbidden":
        parent = _model_at(root, loc[:-1])
        known = list(parent.model_fields) if parent else []
        known += [f"{k}_file" for k in known if parent and is_secret(parent.model_fields[k].annotation)]
        return f"{where}: unknown key{nearest(loc[-1], known)}"
    if error["type"] == "missing":
        return f"{where}: is required"
    message = str(error["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should be", "must be").replace("a valid integer", "an integer")
    message = message.replace("a valid ", "a ")
    if error["type"] == "too_short":
        message = f"must have at least {error['ctx']['min_length']} item"
    return f"{where}: {message}" if where else message


def _origin(loc: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str | None:
    if not loc:
        return None
    for keys, name in origins.items():
        spelt = (*keys[:-1], keys[-1].removesuffix("_file"))
        if loc[: len(keys)] in (keys, spelt) or keys[: len(loc)] == loc:
            return name
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause that names the one of ``known`` that was meant; empty where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _model_at(kind: Any, loc: tuple[str, ...]) -> type[BaseModel] | None:
    """The model that a location of a validation error points at, or ``None``."""
    if get_origin(kind) in (dict, list):
        return _model_at(get_args(kind)[-1], loc[1:]) if loc else None
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            if not loc:
                return candidate
            field = candidate.model_fields.get(loc[0])
            return _model_at(field.annotation, loc[1:]) if field else None
    return None


def is_secret(annotation: object) -> bool:
    """Whether a setting may come from a file: a secret or a list of them, no table."""
    return "SecretStr" in str(annotation) and "dict[" not in str(annotation)
