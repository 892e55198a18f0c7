"""The OpenAPI 3.1 document of the API, made from the list of its endpoints.

Pure: the same endpoints give the same document, member for member. What a signature says is taken
from it, the rest from ``words.py``; a new endpoint is described without a change here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import pydantic
import pydantic.json_schema

import relay
from relay.web import endpoints, problems, words
from relay.web.schemas import events as event_schemas

VERSION: Final = "3.1.0"

JSON: Final = "application/json"
STREAM: Final = "text/event-stream"

_SCHEMAS: Final = "#/components/schemas/"
_VERBATIM: Final = frozenset({"default", "const", "enum", "examples", "example"})
"""Members of a schema whose values are values, not schemas."""

_WITHOUT_BODY: Final = frozenset({204, 304})

Json = dict[str, Any]


def document(listed: Sequence[endpoints.Endpoint]) -> Json:
    """The document that describes ``listed``. Raises ``KeyError`` for a header or status without words."""
    models = _Models(listed)
    paths: dict[str, Json] = {}
    for endpoint in listed:
        described = _operation(endpoint, listed, models)
        paths.setdefault(path_of(endpoint), {})[endpoint.method.lower()] = described
    used = {tag_of(endpoint) for endpoint in listed}
    tags = [{"name": tag, "description": said} for tag, said in words.TAGS.items() if tag in used]
    tags += [{"name": tag} for tag in sorted(used - words.TAGS.keys())]
    return {
        "openapi": VERSION,
        "info": {
            "title": "relay",
            "version": relay.__version__,
            "summary": "Watches generation tasks and tells when they end.",
            "description": words.ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The relay that serves this document."}],
        "security": [{"key": []}],
        "tags": tags,
        "paths": paths,
        "webhooks": {"task": words.WEBHOOK},
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key of relay, `rk_…`; `relay keys create` makes one.",
                }
            },
            "headers": words.ANSWER_HEADERS,
            "responses": {name: _problem(status) for status, (name, _) in words.PROBLEMS.items()},
            "schemas": models.components(),
        },
    }


def path_of(endpoint: endpoints.Endpoint) -> str:
    """The endpoint's path as OpenAPI writes it: ``{task:…}`` without its regular expression."""
    return re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", endpoint.path)


def tag_of(endpoint: endpoints.Endpoint) -> str:
    """The resource that the endpoint belongs to; ``operations`` for all that is not the API proper."""
    if not endpoint.path.startswith(f"{endpoints.API}/"):
        return "operations"
    return endpoint.path.removeprefix(f"{endpoints.API}/").partition("/")[0]


def operation_id(endpoint: endpoints.Endpoint) -> str:
    """``tasks_submit``, ``keys_list``: the resource and the handler's name without repeating it."""
    tag = tag_of(endpoint)
    name = endpoint.handler.__name__
    return f"{tag}_{name.removesuffix(f'_{tag}').removesuffix(f'_{tag[:-1]}')}"


def refusals(endpoint: endpoints.Endpoint) -> list[int | str]:
    """The statuses of the problems that the endpoint can answer, least first."""
    found: set[int | str] = {500, *endpoint.refusals}
    if endpoint.access is not endpoints.Access.OPEN:
        found |= {401, 429, 503}
    if endpoint.access is endpoints.Access.ADMIN:
        found.add(403)
    if endpoint.parameters:
        found.add(404)
    if endpoint.query is not None or "task" in endpoint.parameters:
        found.add(422)
    if endpoint.body is not None:
        found |= {400, 408, 413, 415, 422}
    return sorted(found - set(endpoint.answers), key=str)


class _Models:
    """The schemas of all models that the endpoints name."""

    def __init__(self, listed: Sequence[endpoints.Endpoint]) -> None:
        taken = [model for each in listed for model in (each.body, each.query) if model is not None]
        given = [model for each in listed for model in each.answers.values() if model is not None]
        if any(STREAM in each.media for each in listed):
            given.append(event_schemas.StreamedEvent)
        wanted: list[tuple[type[pydantic.BaseModel], Literal["validation", "serialization"]]] = [
            *((model, "validation") for model in taken),
            *((model, "serialization") for model in given),
        ]
        refs, found = pydantic.json_schema.models_json_schema(
            list(dict.fromkeys(wanted)), ref_template=f"{_SCHEMAS}{{model}}"
        )
        self._names = {key: str(ref["$ref"]).removeprefix(_SCHEMAS) for key, ref in refs.items()}
        self._schemas: dict[str, Json] = {name: _tidy(each) for name, each in found["$defs"].items()}
        self._queries = {self._names[each.query, "validation"] for each in listed if each.query is not None}
        for name, schema in self._schemas.items():
            _explain(name, schema)

    def body(self, model: type[pydantic.BaseModel]) -> Json:
        """A reference to what ``model`` looks like when it is sent to relay."""
        return {"$ref": f"{_SCHEMAS}{self._names[model, 'validation']}"}

    def answer(self, model: type[pydantic.BaseModel]) -> Json:
        """A reference to what ``model`` looks like in an answer."""
        return {"$ref": f"{_SCHEMAS}{self._names[model, 'serialization']}"}

    def members(self, model: type[pydantic.BaseModel]) -> list[tuple[str, Json, bool]]:
        """The members of a query: name, schema, whether it has to be there."""
        schema = self._schemas[self._names[model, "validation"]]
        required = schema.get("required", ())
        return [
            (name, _without_null(member), name in required) for name, member in schema["properties"].items()
        ]

    def components(self) -> dict[str, Json]:
        """All schemas by name; those of queries are told as parameters instead."""
        own = {"Problem": words.PROBLEM, "Notification": words.NOTIFICATION}
        if "StreamedEvent" in self._schemas:
            own["ServerSentEvent"] = words.STREAM
        kept = {name: each for name, each in self._schemas.items() if name not in self._queries}
        return dict(sorted((own | kept).items()))


def _operation(endpoint: endpoints.Endpoint, listed: Sequence[endpoints.Endpoint], models: _Models) -> Json:
    told: Json = {"operationId": operation_id(endpoint), "tags": [tag_of(endpoint)]}
    summary, _, more = _prose(endpoint.summary).partition(". ")
    told["summary"] = summary.removesuffix(".")
    description = [said for said in (more, _prose(endpoint.description)) if said]
    if endpoint.access is endpoints.Access.ADMIN:
        description.append("Takes a key with the role admin.")
    if description:
        told["description"] = "\n\n".join(description)
    if endpoint.access is endpoints.Access.OPEN:
        told["security"] = []
    if parameters := list(_parameters(endpoint, models)):
        told["parameters"] = parameters
    if endpoint.body is not None:
        told["requestBody"] = {
            "required": any(field.is_required() for field in endpoint.body.model_fields.values()),
            "content": {JSON: {"schema": models.body(endpoint.body)}},
        }
    answers = {str(status): _answer(endpoint, status, listed, models) for status in sorted(endpoint.answers)}
    refused = {
        str(status): {"$ref": f"#/components/responses/{words.PROBLEMS[status][0]}"}
        for status in refusals(endpoint)
    }
    told["responses"] = answers | refused
    return told


def _parameters(endpoint: endpoints.Endpoint, models: _Models) -> Iterable[Json]:
    for name in endpoint.parameters:
        fallback = {"schema": {"type": "string", "minLength": 1}}
        yield {"name": name, "in": "path", "required": True, **words.PATH_PARAMETERS.get(name, fallback)}
    if endpoint.query is not None:
        for name, schema, required in models.members(endpoint.query):
            said = schema.pop("description", words.QUERY_PARAMETERS.get(name))
            told = {"name": name, "in": "query", "required": required, "schema": schema}
            yield told if said is None else told | {"description": said}
    for name in endpoint.reads:
        yield {"name": name, "in": "header", "required": False, **words.REQUEST_HEADERS[name]}


def _answer(
    endpoint: endpoints.Endpoint, status: int, listed: Sequence[endpoints.Endpoint], models: _Models
) -> Json:
    model = endpoint.answers[status]
    sent = [*endpoint.sends, *(() if endpoint.access is endpoints.Access.OPEN else words.SENT_TO_KEYS)]
    told: Json = {"description": words.ANSWERS[status], "headers": _headers("X-Request-Id", *sent)}
    if status in _WITHOUT_BODY:
        return told
    bodies: dict[str, Json] = {
        JSON: {} if model is None else models.answer(model),
        STREAM: {"$ref": f"{_SCHEMAS}ServerSentEvent"},
    }
    told["content"] = {media: {"schema": bodies.get(media, {"type": "string"})} for media in endpoint.media}
    if model is not None and endpoint.method != "GET":
        told |= _links(model, listed)
    return told


def _links(model: type[pydantic.BaseModel], listed: Sequence[endpoints.Endpoint]) -> Json:
    """What can be done with that which was just made."""
    if model.__name__ not in words.LINKS:
        return {}
    parameter, member = words.LINKS[model.__name__]
    return {
        "links": {
            operation_id(each): {
                "operationId": operation_id(each),
                "parameters": {parameter: f"$response.body#/{member}"},
            }
            for each in listed
            if each.parameters == (parameter,)
        }
    }


def _problem(status: int | str) -> Json:
    return {
        "description": words.PROBLEMS[status][1],
        "headers": _headers("X-Request-Id", *words.SENT_WITH.get(status, ())),
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
    }


def _headers(*names: str) -> Json:
    if unknown := [name for name in names if name not in words.ANSWER_HEADERS]:
        raise KeyError(unknown[0])
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _prose(text: str) -> str:
    """A docstring as Markdown: single backticks, one line to a paragraph."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "`").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _tidy(schema: Any) -> Any:
    """``schema`` without the titles that repeat names, and with descriptions as Markdown."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: Json = {}
    for name, value in schema.items():
        if name == "title" and isinstance(value, str):
            continue
        if name == "description" and isinstance(value, str):
            tidy[name] = _prose(value)
        else:
            tidy[name] = value if name in _VERBATIM else _tidy(value)
    return tidy


def _explain(name: str, schema: Json) -> None:
    """Give ``schema`` and its members the words that they have no docstring for."""
    if name in words.EXAMPLES:
        schema["examples"] = words.EXAMPLES[name]
    for member, described in schema.get("properties", {}).items():
        said = words.MEMBERS.get(f"{name}.{member}", words.MEMBERS.get(member))
        if said is not None:
            described.setdefault("description", said)


def _without_null(schema: Json) -> Json:
    """The schema of a query parameter: it is left out where it does not apply, never ``null``."""
    kept = {name: value for name, value in schema.items() if name != "default" or value is not None}
    choices = [each for each in kept.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == 1:
        del kept["anyOf"]
        kept |= choices[0]
    return kept
