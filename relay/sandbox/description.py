"""``/openapi.json`` of the sandbox: its routes, every model's input, as a document for machines.

Pure but for ``add``, which puts the route into an application. The document describes the sandbox
as it was started, so what ``/events`` speaks and which models there are. Read ``docs/sandbox.md``
for the choices behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pydantic_core
from aiohttp import web

import relay
from relay.catalogue import faults, models
from relay.domain import model as domain
from relay.sandbox import problems

Json = dict[str, Any]

_JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"

_EVENTS: Final[Mapping[str, tuple[str, Json]]] = {
    "json": (_JSON, {"$ref": f"{_SCHEMAS}TaskWithEvents"}),
    "ndjson": ("application/x-ndjson", {"type": "string"}),
    "sse": ("text/event-stream", {"$ref": f"{_SCHEMAS}StreamedEvent"}),
}

_REFUSED: Final = {
    400: "The request cannot be read, or the cursor is none of this task.",
    401: "No API key, or one that the sandbox does not know.",
    403: "The API key is disabled.",
    404: "There is no such thing, or another key made it.",
    408: "The body did not arrive in time.",
    409: "This `Idempotency-Key` was used with different input.",
    410: "The link has expired.",
    413: "The body is over the limit.",
    415: "The body is not plain `application/json`.",
    422: "The input is wrong; `errors` lists all of it.",
    429: "Asked for by `[429]`.",
    500: "The sandbox failed.",
    503: "Asked for by `[5xx]`, or too many tasks are running.",
}

_TEXT: Final = {"type": "string"}
_MONEY: Final = {"type": ["number", "null"], "minimum": 0}
_CREATED: Final[Json] = {
    "request_id": _TEXT,
    "task_id": _TEXT,
    "status": {"enum": [status.value for status in domain.Status]},
    "cost_estimate": {"type": "number", "minimum": 0},
}
_TASK: Final[Json] = _CREATED | {
    "cost_actual": _MONEY,
    "output": {
        "type": ["object", "null"],
        "additionalProperties": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["url"],
                "properties": {"url": {"type": "string", "format": "uri"}},
            },
        },
    },
    "error": {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": _TEXT, "message": _TEXT},
    },
}
_EVENT: Final[Json] = {
    "id": _TEXT,
    "type": _TEXT,
    "status": {"enum": [status.value for status in domain.Status]},
    "timestamp": {"type": "string", "format": "date-time"},
    "data": {"$ref": f"{_SCHEMAS}Task"},
}
_STREAMED: Final[Json] = {
    "id": {"type": "string", "description": "The event's id, for `Last-Event-ID`."},
    "event": {"type": "string", "description": "The event's type."},
    "data": {"type": "string", "contentMediaType": _JSON, "description": "The whole event."},
}
_PROBLEM: Final[Json] = {
    "type": _TEXT,
    "title": _TEXT,
    "status": {"type": "integer"},
    "detail": _TEXT,
    "errors": {
        "type": "array",
        "maxItems": faults.FAULTS_MAX,
        "items": {
            "type": "object",
            "required": ["detail", "pointer"],
            "properties": {"detail": _TEXT, "pointer": {"type": "string", "format": "json-pointer"}},
        },
    },
}

_TASK_ID: Final = {
    "name": "task_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}


def add(app: web.Application, *, catalogue: models.Catalogue, events: str) -> None:
    """Serve the document of a sandbox with these models and events at ``/openapi.json``, to anybody."""
    written = pydantic_core.to_json(document(catalogue, events=events))

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=written, content_type=_JSON)

    app.router.add_get("/openapi.json", openapi, allow_head=False)


def document(catalogue: models.Catalogue, *, events: str) -> Json:
    """The OpenAPI 3.1 document; ``events`` is what ``/events`` speaks."""
    offered = [model for model in catalogue if not model.retired]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relay sandbox",
            "version": relay.__version__,
            "description": "A stand-in for the MindVideo API. Schemas of inputs that were seen in part only "
            "let more pass than the API may; answers about them carry `X-Sandbox-Schema: partial`.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {
            "/api/v1/tasks": {"post": _create()},
            "/api/v1/tasks/{task_id}": {"get": _show()},
            "/api/v1/tasks/{task_id}/events": {"get": _events(events)},
            "/outputs/{task_id}/{name}": {"get": _output()},
            "/openapi.json": {"get": _itself()},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Create": {
                    "oneOf": [_create_of(model) for model in offered],
                    "examples": [
                        {"model": model.slug, "input": dict(model.example_input)} for model in offered[:1]
                    ],
                },
                "Created": _object(_CREATED, required=_CREATED),
                "Task": _object(_TASK, required=_TASK.keys() - {"error"}),
                "Event": _object(_EVENT, required=_EVENT),
                "StreamedEvent": _object(_STREAMED, required=_STREAMED)
                | {"description": "Each event of a stream of server-sent events."},
                "TaskWithEvents": _object(
                    _TASK
                    | {
                        "events": {"type": "array", "items": {"$ref": f"{_SCHEMAS}Event"}},
                        "next_cursor": _TEXT,
                    },
                    required={*_TASK, "events", "next_cursor"} - {"error"},
                ),
                "Problem": _object(_PROBLEM, required=_PROBLEM.keys() - {"errors"}),
            },
        },
    }


def _create() -> Json:
    created = {_JSON: {"schema": {"$ref": f"{_SCHEMAS}Created"}}}
    headers = {
        "X-Sandbox-Schema": {
            "description": "`partial` where the schema of the model's input was seen in part only.",
            "schema": {"const": "partial"},
        }
    }
    replayed = {"Idempotent-Replayed": {"schema": {"const": "true"}}}
    following = {
        operation: {"operationId": operation, "parameters": {"task_id": "$response.body#/task_id"}}
        for operation in ("show_task", "task_events")
    }
    return {
        "operationId": "create_task",
        "summary": "Create a task",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
                "example": "order-4711",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": {"$ref": f"{_SCHEMAS}Create"}}},
        },
        "responses": {
            "201": {
                "description": "It was made.",
                "headers": headers,
                "content": created,
                "links": following,
            },
            "200": {
                "description": "The answer to the same request, given again.",
                "headers": headers | replayed,
                "content": created,
            },
            **_refusals(400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503),
        },
    }


def _show() -> Json:
    return {
        "operationId": "show_task",
        "summary": "Show a task",
        "parameters": [_TASK_ID],
        "responses": {
            "200": {
                "description": "The task.",
                "content": {_JSON: {"schema": {"$ref": f"{_SCHEMAS}Task"}}},
            },
            **_refusals(401, 403, 404, 429, 500, 503),
        },
    }


def _events(events: str) -> Json:
    etag = {"ETag": {"schema": _TEXT}}
    refused = _refusals(400, 401, 403, 404, 429, 500, 503)
    answers: Json = {}
    headers = ["Last-Event-ID"] if events == "sse" else ["If-None-Match"]
    if events in _EVENTS:
        media, schema = _EVENTS[events]
        answers["200"] = {"description": "The events.", "content": {media: {"schema": schema}}}
        if events == "sse":
            answers["204"] = {"description": "The task has ended, and everything was seen."}
        else:
            answers["200"]["headers"] = etag
            answers["304"] = {"description": "Nothing is new.", "headers": etag}
    return {
        "operationId": "task_events",
        "summary": "Show a task with its events, or stream them",
        "parameters": [
            _TASK_ID,
            {
                "name": "cursor",
                "in": "query",
                "description": "An event's id, or the `next_cursor` of a page: what comes after it.",
                "schema": _TEXT,
            },
            *({"name": name, "in": "header", "schema": _TEXT} for name in headers),
        ],
        "responses": answers | refused,
    }


def _output() -> Json:
    files: Json = {media: {} for media in ("video/mp4", "image/png")}
    return {
        "operationId": "output",
        "summary": "Fetch an output",
        "security": [],
        "parameters": [
            _TASK_ID,
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            *({"name": name, "in": "header", "schema": _TEXT} for name in ("Range", "If-None-Match")),
        ],
        "responses": {
            "200": {"description": "All of it.", "content": files},
            "206": {"description": "The range that was asked for.", "content": files},
            "304": {"description": "What the client has still holds."},
            "416": {"description": "There is no such range."},
            **_refusals(404, 410, 500),
        },
    }


def _itself() -> Json:
    return {
        "operationId": "openapi",
        "summary": "This document",
        "security": [],
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": {_JSON: {"schema": {}}}}},
    }


def _create_of(model: models.Model) -> Json:
    """What a create of this model looks like."""
    schema = dict(model.schema) if model.schema is not None else {"type": "object"}
    return _object({"model": {"const": model.slug}, "input": schema}, required=("model", "input")) | {
        "additionalProperties": False
    }


def _object(members: Json, *, required: Iterable[str]) -> Json:
    return {"type": "object", "required": sorted(required), "properties": members}


def _refusals(*statuses: int) -> Json:
    problem = {problems.CONTENT_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    return {str(status): {"description": _REFUSED[status], "content": problem} for status in statuses}
