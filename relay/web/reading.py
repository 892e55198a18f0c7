"""Reads what a caller sends, strictly, and says everything that is wrong with it at once.

Text that reaches the rest of relay from here holds no NUL and no lone surrogate, integers fit in 64
bits, numbers are finite, no member is there twice and nothing nests deeper than ``DEPTH_MAX``. What
is no JSON at all is a 400; JSON that says the wrong thing is a 422 with pointers. Read ``schemas/``
for the shapes.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import pydantic
from aiohttp import hdrs, web

from relay.web import problems

DEPTH_MAX: Final = 64
"""Levels that a body may nest: far more than any model's input, far less than what exhausts a stack."""

INTEGER_MAX: Final = 2**63 - 1
"""What a database column and most JSON readers hold."""

BODY_TIMEOUT: Final = 30.0
"""Seconds that a body may take to arrive once its headers have."""

NOTIFY_MAX: Final = 32
"""Destinations that one registration may name."""

FOREIGN_MAX: Final = 64
"""Members of a create that are passed on unread; each is compared with the names of ours."""

CLOSE_ENOUGH: Final = 0.8
"""Likeness (difflib's ratio) from which a foreign member counts as a misspelling of one of ours."""

_DIGITS_MAX: Final = 30
"""Digits of an integer that are looked at: 64 bits need 19, and huge ones are slow to convert."""

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")

ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


class _Doubled(dict[str, object]):
    """An object in which ``name`` was there twice; which one was meant, nobody can say."""

    name: str


async def body(request: web.Request, model: type[ModelT]) -> ModelT:
    """The request's body as ``model``.

    A request without any body is read as ``{}``. Raises ``problems.Problem`` with 400, 408, 413,
    415 or 422.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        # Nothing is inflated here, so there is no bomb either: connections are opened so (serving.py).
        raise problems.Problem(415, "Send the body as it is, without a Content-Encoding.")
    raw = _at_hand(request) if request.content.is_eof() else await _read(request)
    if not raw:
        return validate(model, {})
    _check_content_type(request)
    return validate(model, parse(raw))


def parse(raw: bytes) -> object:
    """The JSON value in ``raw``, decoded strictly. Raises ``problems.Problem`` with 400 or 422."""
    if _PLAIN.fullmatch(raw) and raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:
        try:
            return _PLAIN_DECODER.decode(raw.decode("utf-8"))
        except ValueError:
            pass  # what is wrong with it is told below
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise problems.Problem(400, f"The body is not UTF-8 text (at byte {exc.start}).") from None
    if text.startswith("\ufeff"):
        raise problems.Problem(400, "The body starts with a byte order mark (BOM), which is not JSON.")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        raise problems.Problem(
            400, f"The body is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})."
        ) from None
    except RecursionError:
        raise problems.Problem(400, f"The body nests deeper than {DEPTH_MAX} levels.") from None
    except ValueError as exc:
        raise problems.Problem(400, f"The body is not JSON: {exc}.") from None
    if isinstance(value, (dict, list)):
        faults = list(itertools.islice(_examine(value, ()), problems.FAULTS_MAX))
    else:
        faults = [problems.Fault(wrong, "")] if (wrong := _wrong(value)) else []
    if faults:
        raise problems.invalid(faults)
    return value


def validate(model: type[ModelT], value: object) -> ModelT:
    """``value`` as ``model``. Raises ``problems.Problem`` 422 with a pointer for each fault."""
    if not isinstance(value, dict):
        raise problems.invalid([problems.Fault("The body must be a JSON object.", "")])
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as exc:
        # Explaining looks for near names, which costs: their number is up to the caller.
        found = exc.errors(include_url=False, include_input=False)[: problems.FAULTS_MAX]
        raise problems.invalid(
            [problems.Fault(_explain(error, model), problems.pointer(error["loc"])) for error in found]
        ) from None


def query(request: web.Request, model: type[ModelT]) -> ModelT:
    """The URL's query as ``model``. Raises ``problems.Problem`` 422 naming each bad parameter."""
    given = request.query
    faults = [
        problems.Fault("is given more than once", parameter=name)
        for name in dict.fromkeys(given)
        if len(given.getall(name)) > 1
    ]
    for name in given:
        if _unfit(name) or _unfit(given[name]):
            raise problems.invalid([problems.Fault("The query holds text that is not valid Unicode.")])
    if not faults:
        try:
            return model.model_validate(dict(given))
        except pydantic.ValidationError as exc:
            faults = [
                problems.Fault(_explain(error, model), parameter=str(error["loc"][0])[:64])
                for error in exc.errors(include_url=False, include_input=False)
            ]
    raise problems.invalid(faults)


def idempotency_key(request: web.Request) -> str | None:
    """The caller's ``Idempotency-Key``, or ``None``. Raises ``problems.Problem`` 400.

    The relayed API shows bare keys, the IETF draft quotes them; both spell the same key.
    """
    values = request.headers.getall("Idempotency-Key", ())
    if not values:
        return None
    key = values[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r"\\([\\\"])", r"\1", key[1:-1])
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise problems.invalid(
            [
                problems.Fault(
                    "takes one key of 1 to 255 printable ASCII characters", parameter="Idempotency-Key"
                )
            ],
            status=400,
        )
    return key


def names_in_header(request: web.Request, header: str) -> tuple[str, ...]:
    """The words of a header such as ``Relay-Notify: a, b``, over all its lines; empty when absent."""
    lines = request.headers.getall(header, ())
    names = tuple(dict.fromkeys(word.strip() for line in lines for word in line.split(",") if word.strip()))
    if len(names) > NOTIFY_MAX:
        raise problems.invalid(
            [problems.Fault(f"names more than {NOTIFY_MAX} destinations", parameter=header)]
        )
    return names


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The one of ``known`` that ``word`` may have been meant to be."""
    close = difflib.get_close_matches(word.lower()[:64], list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def misspellings(given: Collection[str], ours: Sequence[str]) -> list[problems.Fault]:
    """The members of ``given``, none of which is ours, that look as if one of ``ours`` was meant."""
    if len(given) > FOREIGN_MAX:
        return [problems.Fault(f"has more than {FOREIGN_MAX} members that are not known here", "")]
    found = ((name, nearest(name, ours, cutoff=CLOSE_ENOUGH)) for name in given)
    return [
        problems.Fault(f"is not a member here; did you mean {meant!r}?", problems.pointer([name]))
        for name, meant in found
        if meant is not None
    ]


def _at_hand(request: web.Request) -> bytes:
    """All of it came with the headers: the usual case, without a timer."""
    try:
        raw = request.content.read_nowait()
    except ConnectionError:
        raise _cut_off() from None
    if len(raw) > request.client_max_size:
        raise _too_large(request)
    return raw


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except TimeoutError:
        raise problems.Problem(408, f"The body did not arrive within {BODY_TIMEOUT:g} s.") from None
    except ConnectionError:
        raise _cut_off() from None


def _too_large(request: web.Request) -> problems.Problem:
    limit = f"the limit of {request.client_max_size} bytes"
    return problems.Problem(413, f"The body is over {limit}; give large media as hosted URLs.")


def _cut_off() -> problems.Problem:
    """Nobody is left to read it, but neither did relay fail."""
    return problems.Problem(400, "The connection ended before the body did.")


def _check_content_type(request: web.Request) -> None:
    if request.headers.get("Content-Type") == "application/json":
        return
    kind = request.content_type
    charset = request.charset
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise problems.Problem(
            415,
            "Send JSON with the header 'Content-Type: application/json'; curl -d alone announces a form.",
            headers={"Accept-Post": "application/json"},
        )
    if charset is not None and charset.lower().replace("_", "-") not in ("utf-8", "utf8", "us-ascii"):
        raise problems.Problem(415, "JSON is sent in UTF-8; leave the charset out of the Content-Type.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    doubled = _Doubled(made)
    seen: set[str] = set()
    doubled.name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return doubled


def _integer(digits: str) -> int:
    return int(digits[:_DIGITS_MAX])


def _refuse_constant(word: str) -> object:
    raise ValueError(f"{word} is not a JSON number")


_PLAIN: Final = re.compile(rb"(?:[^\\0-9]++|[0-9]{1,15}(?![0-9eE])|\\[^u])*+")
"""A body without anything that would have to be examined: no escaped code point, which alone could
be NUL or half a pair; no number that could be too large. Nearly all bodies are like that."""


def _plain_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member is there more than once")
    return made


_PLAIN_DECODER: Final = json.JSONDecoder(object_pairs_hook=_plain_object, parse_constant=_refuse_constant)
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=_refuse_constant
)


def _unfit(text: str) -> str | None:
    """What is wrong with a text, or ``None``."""
    if "\x00" in text:
        return "holds the character NUL, which cannot be stored"
    if not text.isascii() and _SURROGATE.search(text):
        return "holds half of a surrogate pair, which is no character"
    return None


def _wrong(value: object) -> str | None:
    """What is wrong with a value that holds no others, or ``None``."""
    if isinstance(value, str):
        return _unfit(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "is out of the range of a number"
    if isinstance(value, int):
        return None if -INTEGER_MAX - 1 <= value <= INTEGER_MAX else "is an integer of more than 64 bits"
    return None


def _examine(
    value: dict[str, object] | list[object], path: tuple[str | int, ...]
) -> Iterator[problems.Fault]:
    """What is wrong inside of ``value``, found at ``path``."""
    if len(path) >= DEPTH_MAX:
        yield problems.Fault(f"nests deeper than {DEPTH_MAX} levels", problems.pointer(path))
        return
    members: Iterable[tuple[str | int, object]]
    if isinstance(value, list):
        members = enumerate(value)
    else:
        members = value.items()
        if wrong := next(filter(None, map(_unfit, value)), None):
            yield problems.Fault(f"has a member whose name {wrong}", problems.pointer(path))
            return
    for name, member in members:
        if isinstance(member, (dict, list)):
            yield from _examine(member, (*path, name))
        elif wrong := _wrong(member):
            yield problems.Fault(wrong, problems.pointer((*path, name)))
    if isinstance(value, _Doubled):
        yield problems.Fault("is there more than once", problems.pointer((*path, value.name)))


def _explain(error: Any, model: type[pydantic.BaseModel]) -> str:
    """One clear clause for an error of pydantic's, without the value."""
    kind, message = error["type"], str(error["msg"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        meant = nearest(str(error["loc"][-1]), model.model_fields)
        return f"is not known here; did you mean {meant!r}?" if meant else "is not known here"
    if kind == "enum":
        return f"must be one of {error['ctx']['expected']}"
    if kind == "dict_type":
        return "must be an object"
    if kind == "too_long":
        return f"must not have more than {error['ctx']['max_length']} items"
    if kind == "too_short":
        return f"must have at least {error['ctx']['min_length']} item"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"must not have more than {error['ctx']['max_length']} characters"
    if kind == "string_pattern_mismatch":
        return "must not have control characters"
    message = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should be", "must be").replace("a valid integer", "an integer")
    return message.replace("a valid ", "a ")
