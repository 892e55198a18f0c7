"""``/docs``: the OpenAPI document as one page to read, without scripts or anybody else's code.

Pure: made from the document alone. Every text of it is escaped here; the page's policy lets nothing
run and nothing load but the style that it carries.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, Final

Json = dict[str, Any]

_STYLE: Final = importlib.resources.files(__package__).joinpath("docs.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""What the page is served with."""

_EVERYWHERE: Final = frozenset({"X-Request-Id", "RateLimit", "RateLimit-Policy"})
"""Headers of so many answers that they are told once, at the beginning."""

_SCHEMAS: Final = "#/components/schemas/"
_LIMITS: Final = {
    "format": "{}",
    "minimum": "from {}",
    "maximum": "to {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "default": "default {}",
}


def render(document: Json) -> str:
    """The page for ``document``, an OpenAPI document as ``openapi.document`` makes it."""
    info = document["info"]
    by_tag = {tag["name"]: (tag, list(_of_tag(document, tag["name"]))) for tag in document["tags"]}
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        *_contents(document, by_tag),
        f"<main><h1>{_text(info['title'])} API {_text(info['version'])}</h1>",
        _paragraphs(info["description"]),
        '<p>For machines: <a href="/openapi.json">openapi.json</a>. The examples use <code>RELAY_URL</code> '
        "and <code>RELAY_API_KEY</code>.</p>",
    ]
    for name, (tag, operations) in by_tag.items():
        parts.append(f'<h2 id="{_text(name)}">{_text(name.capitalize())}</h2>')
        parts.append(_paragraphs(tag.get("description", "")))
        parts += [_operation(document, method, path, told) for method, path, told in operations]
    for name, item in document.get("webhooks", {}).items():
        parts.append('<h2 id="webhooks">Webhooks</h2>')
        parts.append(_operation(document, "post", f"your URL ({name})", item["post"]))
    parts.append('<h2 id="schemas">Schemas</h2>')
    parts += [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    parts.append("</main></body></html>")
    return "\n".join(parts) + "\n"


def _of_tag(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if tag in told["tags"]:
                yield method, path, told


def _contents(document: Json, by_tag: dict[str, tuple[Json, list[tuple[str, str, Json]]]]) -> Iterator[str]:
    yield f"<nav><strong>{_text(document['info']['title'])}</strong>"
    for name, (_, operations) in by_tag.items():
        yield f'<strong><a href="#{_text(name)}">{_text(name.capitalize())}</a></strong><ul>'
        for _, _, told in operations:
            yield f'<li><a href="#{_text(told["operationId"])}">{_text(told["summary"])}</a></li>'
        yield "</ul>"
    if document.get("webhooks"):
        yield '<strong><a href="#webhooks">Webhooks</a></strong>'
    yield '<strong><a href="#schemas">Schemas</a></strong><ul>'
    for name in document["components"]["schemas"]:
        yield f'<li><a href="#schema-{_text(name)}">{_text(name)}</a></li>'
    yield "</ul></nav>"


def _operation(document: Json, method: str, path: str, told: Json) -> str:
    parts = [
        f'<section id="{_text(told["operationId"])}">',
        f'<h3><b class="{method}">{method.upper()}</b><code>{_text(path)}</code></h3>',
        _paragraphs(f"{told['summary']}.\n\n{told.get('description', '')}"),
    ]
    if told.get("parameters"):
        rows = (_parameter(each) for each in told["parameters"])
        parts += ["<h4>Parameters</h4>", _table(rows)]
    if "requestBody" in told:
        schema = told["requestBody"]["content"]["application/json"]["schema"]
        parts += ["<h4>Body</h4>", f"<p>{_type(schema)}</p>", _members(_resolved(document, schema))]
    rows = (_answer(document, status, answer) for status, answer in told["responses"].items())
    parts += ["<h4>Answers</h4>", _table(rows)]
    if path.startswith("/"):
        parts += ["<h4>Example</h4>", f"<pre>{_text(_curl(document, method, path, told))}</pre>"]
    return "\n".join([*parts, "</section>"])


def _parameter(parameter: Json) -> tuple[str, str, str]:
    required = "" if parameter["required"] else ' <span class="faint">optional</span>'
    where = f'<span class="faint">{_text(parameter["in"])}</span>'
    return (
        f"<code>{_text(parameter['name'])}</code>{required}",
        f"{where} {_type(parameter['schema'])}",
        _inline(parameter.get("description", "")),
    )


def _answer(document: Json, status: str, answer: Json) -> tuple[str, str, str]:
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    bodies = ", ".join(
        _type(media["schema"]) if "$ref" in media["schema"] else f"<code>{_text(name)}</code>"
        for name, media in answer.get("content", {}).items()
    )
    sent = [name for name in answer.get("headers", {}) if name not in _EVERYWHERE]
    headers = f'<p class="faint">Headers: {_text(", ".join(sent))}</p>' if sent else ""
    return f"<code>{_text(status)}</code>", bodies, f"<p>{_inline(answer['description'])}</p>{headers}"


def _schema(name: str, schema: Json) -> str:
    return (
        f'<section id="schema-{_text(name)}"><h3>{_text(name)}</h3>'
        f"{_paragraphs(schema.get('description', ''))}"
        f"{_members(schema) or f'<p>{_type(schema)}</p>'}</section>"
    )


def _members(schema: Json) -> str:
    """The members of an object; those of objects in it that have no name of their own below them."""
    rows = list(_member_rows(schema, ""))
    return _table(rows) if rows else ""


def _member_rows(schema: Json, prefix: str) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        mark = "" if name in required else ' <span class="faint">optional</span>'
        label = f"<code>{_text(prefix + name)}</code>{mark}"
        yield label, _type(member), _inline(member.get("description", ""))
        nested, brackets = (member["items"], "[]") if "items" in member else (member, "")
        yield from _member_rows(nested, f"{prefix}{name}{brackets}.")


def _type(schema: Json) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return f'<a href="#schema-{_text(name)}">{_text(name)}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_type(each) for each in schema[word]) + _limits(schema)
    if "const" in schema:
        return f"<code>{_text(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " · ".join(f"<code>{_text(str(each))}</code>" for each in schema["enum"]) + _limits(schema)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_limits(schema)}"
    return _text(" or ".join(kind) if isinstance(kind, list) else kind) + _limits(schema)


def _limits(schema: Json) -> str:
    said = [words.format(schema[name]) for name, words in _LIMITS.items() if schema.get(name) is not None]
    return f' <span class="faint">{_text(", ".join(said))}</span>' if said else ""


def _curl(document: Json, method: str, path: str, told: Json) -> str:
    for parameter in told.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example", parameter["name"])))
    lines = [
        f'curl "$RELAY_URL{path}"' if method == "get" else f'curl -X {method.upper()} "$RELAY_URL{path}"'
    ]
    if told.get("security") != []:
        lines.append('-H "Authorization: Bearer $RELAY_API_KEY"')
    headers = [each for each in told.get("parameters", ()) if each["in"] == "header" and "example" in each]
    lines += ["-H " + shlex.quote(f"{each['name']}: {each['example']}") for each in headers]
    if "requestBody" in told:
        schema = _resolved(document, told["requestBody"]["content"]["application/json"]["schema"])
        lines.append('-H "Content-Type: application/json"')
        lines.append(f"-d {shlex.quote(json.dumps(schema.get('examples', [{}])[0], indent=2))}")
    return " \\\n  ".join(lines)


def _resolved(document: Json, schema: Json) -> Json:
    found: Json = schema
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].removeprefix(_SCHEMAS)]
    return found


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    return (
        "<table>" + "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows) + "</table>"
    )


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(each)}</p>" for each in text.split("\n\n") if each.strip())


def _inline(text: str) -> str:
    """One line of Markdown, of which code is all that is used."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    return html.escape(text)
