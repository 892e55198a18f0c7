"""Reads what a client sends to create a task, and refuses it clearly.

A body that is no JSON is answered 400; one that says the wrong thing 422, with every fault at
once. Read ``relay.catalogue`` for the faults of the input itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from typing import Final

import pydantic_core

from relay.catalogue import faults, models
from relay.sandbox import problems

PARTIAL: Final = {"X-Sandbox-Schema": "partial"}
"""Said of models whose schema is known in part only: an accepted input may still be refused by
the real API."""

_MEMBERS: Final = frozenset({"model", "input"})

_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A valid request for a task.

    ``fingerprint`` is SHA-256 of the canonical JSON of model and input: the order of members does
    not matter, ``null`` differs from absent. ``headers`` belong on every answer to it.
    """

    model: models.Model
    task_input: dict[str, object]
    fingerprint: bytes
    headers: dict[str, str]


def read(raw: bytes, catalogue: models.Catalogue) -> Create:
    """Take a request body apart. Raises ``problems.Problem`` with 400 or 422."""
    body, canonical = _parse(raw)
    if not isinstance(body, dict):
        raise _invalid([faults.Fault("The body is an object with model and input.", "")])
    model, found = _model(body, catalogue)
    task_input = body.get("input")
    if "input" not in body:
        found.append(faults.Fault('"input" is a required property.', ""))
    elif not isinstance(task_input, dict):
        found.append(faults.Fault("The input is an object.", "/input"))
    elif model is not None:
        found.extend(model.faults(task_input))
    unknown = itertools.islice((name for name in body if name not in _MEMBERS), faults.FAULTS_MAX)
    found.extend(
        faults.Fault(faults.unknown_member(name, _MEMBERS), faults.pointer(name)) for name in unknown
    )
    headers = PARTIAL if model is not None and not model.schema_complete else {}
    if found or model is None or not isinstance(task_input, dict):
        raise _invalid(found, headers)
    fingerprint = hashlib.sha256(canonical).digest()
    return Create(model=model, task_input=task_input, fingerprint=fingerprint, headers=headers)


def idempotency_key(header: str | None) -> str | None:
    """The key that a header names, quoted or bare. Raises ``problems.Problem`` with 400.

    The documentation shows bare keys, the IETF draft quotes them; both spell the same key.
    """
    if header is None:
        return None
    key = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise problems.Problem(400, "An Idempotency-Key is 1 to 255 visible ASCII characters.")
    return key


def _parse(raw: bytes) -> tuple[object, bytes]:
    """The decoded body and its canonical JSON, which holds no NaN or infinity either."""
    try:
        body = pydantic_core.from_json(raw, allow_inf_nan=False)
        # 1e400 parses as infinity all the same; writing it is refused.
        text = json.dumps(body, sort_keys=True, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        raise problems.Problem(
            400, "The body is not JSON (UTF-8, finite numbers, nested 200 deep)."
        ) from None
    return body, text.encode("utf-8")


def _model(
    body: dict[str, object], catalogue: models.Catalogue
) -> tuple[models.Model | None, list[faults.Fault]]:
    slug = body.get("model")
    if "model" not in body:
        return None, [faults.Fault('"model" is a required property.', "")]
    if not isinstance(slug, str):
        return None, [faults.Fault("The model is a slug, a string.", "/model")]
    model = catalogue.find(slug)
    if model is not None:
        return model, []
    nearest = catalogue.nearest(slug)
    hint = f"the nearest are: {', '.join(nearest)}" if nearest else f"none of {len(catalogue)} is near it"
    return None, [faults.Fault(f"There is no such model; {hint}.", "/model")]


def _invalid(found: list[faults.Fault], headers: dict[str, str] | None = None) -> problems.Problem:
    detail = found[0].detail if len(found) == 1 else f"The request has {len(found)} faults; see errors."
    return problems.Problem(422, detail, errors=found, headers=headers)
