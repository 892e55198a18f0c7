"""Media in an input: hosted URLs and data URIs (RFC 2397). Pure; nothing is fetched.

A string is taken for media where the schema says so (``x-playground`` with a ``file-upload``
widget or an ``uploadKind``, on the property itself or on the list that holds the string), or where
it looks like a data URI: ``data:``, a media type or none, then ``;`` or ``,``. A text area is never
looked at: a prompt may begin with any word. Hints are looked for along ``properties`` and
``items``; those behind references or alternatives are not seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.catalogue import faults

URL_MAX: Final = 2_048
"""Characters of a hosted URL: more is refused by servers in common use."""

DATA_URI_BYTES_MAX: Final = 700_000
"""Decoded bytes of one data URI: a compact picture. The documentation asks for hosted URLs beyond."""

REDACTED_FROM: Final = 1_024
"""Characters from which a data URI is not kept in full."""

_HEADER_MAX: Final = 256
"""Characters before the comma of a data URI: a media type and its parameters."""

_TYPE: Final = r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}"
_LOOKS_LIKE: Final = re.compile(rf"data:(?:{_TYPE})?[;,]", re.IGNORECASE)
_HEADER: Final = re.compile(rf"data:(?P<type>{_TYPE})?(?P<parameters>(?:;[^;,\s]*)*)", re.IGNORECASE)
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_A_URL: Final = re.compile(r"[\x00-\x20\x7f]|\s")


class Malformed(ValueError):
    """Not a data URI, or too large a one; the text says why, in words for the client."""


@dataclass(frozen=True, slots=True)
class DataURI:
    """A data URI taken apart. ``media_type`` is in lower case and without parameters."""

    media_type: str
    content: bytes


def parse(uri: str, *, bytes_max: int = DATA_URI_BYTES_MAX) -> DataURI:
    """Take a data URI apart. Raises ``Malformed``; decodes nothing that must be over ``bytes_max``."""
    header, comma, data = uri.partition(",")
    if not comma or len(header) > _HEADER_MAX or (match := _HEADER.fullmatch(header)) is None:
        raise Malformed("This is no data URI; it looks like data:image/png;base64,… .")
    in_base64 = match["parameters"].lower().endswith(";base64")
    # Three characters are the most that one byte takes, escaped; a third more in base64.
    if len(data) > bytes_max * (4 if in_base64 else 3) + 4:
        raise _too_large(bytes_max)
    if not data.isascii():
        raise Malformed("The data URI has characters that are not ASCII; escape them.")
    if _BAD_PERCENT.search(data):
        raise Malformed("The data URI has a % without two hexadecimal digits behind it.")
    content = urllib.parse.unquote_to_bytes(data)
    if in_base64:
        try:
            content = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise Malformed("The data URI is not valid base64 (alphabet, padding, no spaces).") from None
    if len(content) > bytes_max:
        raise _too_large(bytes_max)
    return DataURI((match["type"] or "text/plain").lower(), content)


def _too_large(bytes_max: int) -> Malformed:
    return Malformed(f"The data URI is over {bytes_max:,} bytes; give large media as a hosted URL.")


@dataclass(frozen=True, slots=True)
class _Hint:
    """What the schema says of a string. ``accept`` are media types such as ``image/*``; empty: any."""

    upload: bool = False
    text_area: bool = False
    accept: tuple[str, ...] = ()

    def accepts(self, media_type: str) -> bool:
        family = media_type.partition("/")[0]
        return not self.accept or not {media_type, f"{family}/*", "*/*"}.isdisjoint(self.accept)


_NO_HINT: Final = _Hint()


def _hint(schema: Mapping[str, Any]) -> _Hint | None:
    """The hint that a schema carries, ``None`` where it carries none."""
    said = schema.get("x-playground")
    if not isinstance(said, dict):
        return None
    kind, accept = said.get("uploadKind"), said.get("accept")
    if said.get("widget") != "file-upload" and not isinstance(kind, str):
        return _Hint(text_area=said.get("widget") == "textarea")
    if not isinstance(accept, str):
        accept = f"{kind}/*" if kind in ("image", "video", "audio") else ""
    types = tuple(part.strip().lower() for part in accept.split(",") if part.strip())
    # Endings of file names (".png") say nothing of a media type that could be held against it.
    return _Hint(upload=True, accept=types if all("/" in part for part in types) else ())


def check(
    task_input: Mapping[str, object], schema: Mapping[str, Any] | None, *, bytes_max: int = DATA_URI_BYTES_MAX
) -> Iterator[faults.Fault]:
    """The faults of all media in an input, found as they are asked for."""
    # No recursion: the nesting is the client's choice, and so is the number of members.
    levels = [_members(task_input, schema or {}, _NO_HINT)]
    path: list[str | int] = []
    while levels:
        for part, member, its_schema, hint in levels[-1]:
            if isinstance(member, str):
                detail = _wrong(member, hint, bytes_max)
                if detail is not None:
                    yield faults.Fault(detail, faults.pointer("input", *path, part))
            elif member and isinstance(member, dict | list):
                levels.append(_members(member, its_schema, hint))
                path.append(part)
                break
        else:
            levels.pop()
            del path[-1:]


def _members(
    value: object, schema: Mapping[str, Any], hint: _Hint
) -> Iterator[tuple[str | int, object, Mapping[str, Any], _Hint]]:
    """What an object or list holds, each with the schema and the hint that are its own."""
    if isinstance(value, dict):
        properties = _part(schema, "properties")
        for name, member in value.items():
            its_schema = _part(properties, name)
            # An object's members have hints of their own or none: a role beside a URL is no media.
            yield name, member, its_schema, _hint(its_schema) or _NO_HINT
    elif isinstance(value, list):
        items = _part(schema, "items")
        hint = _hint(items) or hint
        for index, member in enumerate(value):
            yield index, member, items, hint


def _part(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = schema.get(name)
    return found if isinstance(found, dict) else {}


def _wrong(text: str, hint: _Hint, bytes_max: int) -> str | None:
    """What is wrong with a string, ``None`` where nothing is or where it is no media."""
    if hint.text_area:
        return None
    if _LOOKS_LIKE.match(text) or (hint.upload and text[:5].lower() == "data:"):
        try:
            media_type = parse(text, bytes_max=bytes_max).media_type
        except Malformed as malformed:
            return str(malformed)
        if not hint.accepts(media_type):
            return f"The data URI is not of a type accepted here: {', '.join(hint.accept)}."
        return None
    return _wrong_url(text) if hint.upload else None


def _wrong_url(text: str) -> str | None:
    if len(text) > URL_MAX:
        return f"The URL is longer than {URL_MAX:,} characters."
    try:
        parts = urllib.parse.urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, brackets without an address
        usable = False
    if not usable or _NOT_IN_A_URL.search(text):
        return "Give a hosted http(s) URL or a data URI, or leave the member out."
    return None


def redacted(task_input: Mapping[str, object]) -> dict[str, object]:
    """``task_input`` fit to be stored and shown: large data URIs are named, not repeated.

    One of over ``REDACTED_FROM`` characters becomes ``data:TYPE;sha256=HEX;bytes=N``, both of the
    decoded content (of the text where it cannot be decoded). Everything else stays as it is.
    """
    return {name: _redacted(member) for name, member in task_input.items()}


def _redacted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _redacted(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_redacted(member) for member in value]
    if not isinstance(value, str) or len(value) <= REDACTED_FROM or not _LOOKS_LIKE.match(value):
        return value
    try:
        uri = parse(value, bytes_max=len(value))
    except Malformed:
        uri = DataURI("application/octet-stream", value.encode("utf-8", "surrogatepass"))
    digest = hashlib.sha256(uri.content).hexdigest()
    return f"data:{uri.media_type};sha256={digest};bytes={len(uri.content)}"
