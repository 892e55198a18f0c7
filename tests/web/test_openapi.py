"""``/openapi.json`` is valid, complete, the same every time, and made for what is there."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pydantic
import pytest
from aiohttp import web
from schemathesis.specs.openapi import definitions

from relay.catalogue import loading
from relay.domain import wording
from relay.sandbox import app as sandbox_app
from relay.sandbox import description
from relay.web import app, endpoints, openapi, words
from tests.domain import making


def document() -> dict[str, Any]:
    return openapi.document(app.ENDPOINTS)


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            yield method.upper(), path, told


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


SANDBOXES = [
    description.document(loading.load(), events=shape) for shape in ("json", "sse", "ndjson", "absent")
]
DOCUMENTS = [document(), *SANDBOXES]


@pytest.mark.parametrize("described", DOCUMENTS, ids=["relay", "json", "sse", "ndjson", "absent"])
class TestAnyDocument:
    def test_is_valid_openapi_3_1(self, described: dict[str, Any]) -> None:
        problems = [str(each) for each in definitions.OPENAPI_31_VALIDATOR.iter_errors(described)]
        assert problems == []

    def test_has_schemas_that_are_valid_json_schema(self, described: dict[str, Any]) -> None:
        for name, schema in described["components"]["schemas"].items():
            jsonschema_rs.meta.validate(schema)
            whole = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
            jsonschema_rs.Draft202012Validator(whole)

    def test_refers_only_to_what_is_there(self, described: dict[str, Any]) -> None:
        for node in nodes(described["paths"]):
            if "$ref" in node:
                found: Any = described
                for part in node["$ref"].removeprefix("#/").split("/"):
                    found = found[part]

    def test_examples_fit_their_schemas(self, described: dict[str, Any]) -> None:
        for name, schema in described["components"]["schemas"].items():
            whole = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
            for example in schema.get("examples", ()):
                jsonschema_rs.Draft202012Validator(whole).validate(example)
        for _, _, told in operations(described):
            for parameter in told.get("parameters", ()):
                if "example" in parameter:
                    jsonschema_rs.Draft202012Validator(parameter["schema"]).validate(parameter["example"])

    def test_names_each_operation_once_and_links_to_such_a_name(self, described: dict[str, Any]) -> None:
        names = [told["operationId"] for _, _, told in operations(described)]
        assert len(names) == len(set(names))
        linked = [
            node["operationId"] for node in nodes(described) if node.keys() == {"operationId", "parameters"}
        ]
        assert set(linked) <= set(names)


async def test_every_route_is_described_and_every_description_is_a_route(api: Any) -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in app.create_app(api.running.services).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == {(method, path) for method, path, _ in operations(document())}
    reply = await api.call("GET", "/openapi.json", key=None)
    assert reply.body == json.loads(json.dumps(document()))


@pytest.mark.parametrize("shape", ["json", "sse", "ndjson", "absent"])
def test_every_route_of_the_sandbox_is_described(shape: Any) -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in sandbox_app.create_app(events=shape).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = description.document(loading.load(), events=shape)
    assert served == {(method, path) for method, path, _ in operations(described)}


def test_the_same_endpoints_give_the_same_document() -> None:
    assert json.dumps(document()) == json.dumps(document())


def test_operations_under_the_api_take_a_key_and_say_what_happens_without() -> None:
    for _, path, told in operations(document()):
        if path.startswith(endpoints.API):
            assert "security" not in told
            assert "401" in told["responses"]
        else:
            assert told["security"] == []


def test_everything_is_put_into_words() -> None:
    for method, path, told in operations(document()):
        assert told["summary"], (method, path)
        for parameter in told.get("parameters", ()):
            assert parameter.get("description"), (method, path, parameter["name"])
        assert "``" not in json.dumps(told), (method, path)
    unknown = {endpoint for endpoint in app.ENDPOINTS if openapi.tag_of(endpoint) not in words.TAGS}
    assert not unknown


def test_parameters_are_those_of_the_path() -> None:
    for method, path, told in operations(document()):
        named = {each["name"] for each in told.get("parameters", ()) if each["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, (method, path)


def test_headers_that_handlers_look_at_are_declared() -> None:
    text = "".join(path.read_text() for path in Path(openapi.__file__).parent.glob("*.py"))
    looked_at = set(re.findall(r"\bheaders\.get(?:all)?\(\s*\"([A-Za-z-]+)\"", text))
    # OpenAPI has other places for these than parameters.
    of_all = {"Authorization", "X-Request-Id", "Content-Type", "Content-Encoding", "Accept"}
    declared = {name for endpoint in app.ENDPOINTS for name in endpoint.reads}
    assert looked_at - of_all <= declared, "name them in Endpoint(reads=…)"


def test_what_is_declared_without_words_is_refused() -> None:
    async def show(call: endpoints.Call) -> web.Response:
        """Show it."""
        raise AssertionError

    for declared in ({"reads": ("X-Strange",)}, {"sends": ("X-Strange",)}, {"refusals": (418,)}):
        strange = endpoints.Endpoint(method="GET", path="/x", handler=show, answers={200: None}, **declared)
        with pytest.raises(KeyError):
            openapi.document([strange])


class Thing(pydantic.BaseModel):
    """A thing."""

    name: str


class Wanted(pydantic.BaseModel):
    size: int | None = None


async def list_things(call: endpoints.Call, *, query: Wanted) -> web.Response:
    """List ``things``.

    All of
    them.
    """
    raise AssertionError


def test_a_new_endpoint_is_described_by_itself() -> None:
    thing = endpoints.Endpoint(
        method="GET",
        path="/api/v1/things/{where:.+}",
        handler=list_things,
        answers={200: Thing},
        media=("application/json", "text/event-stream"),
    )
    described = openapi.document([thing])
    told = described["paths"]["/api/v1/things/{where}"]["get"]
    assert told["operationId"] == "things_list"
    assert (told["summary"], told["description"]) == ("List `things`", "All of them.")
    assert told["parameters"] == [
        {"name": "size", "in": "query", "required": False, "schema": {"type": "integer"}}
    ]
    assert told["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
        "text/event-stream": {"schema": {"$ref": "#/components/schemas/ServerSentEvent"}},
    }
    assert described["components"]["schemas"]["Thing"]["properties"] == {"name": {"type": "string"}}


def test_what_webhooks_get_fits_its_schema() -> None:
    described = document()
    whole = {"$ref": "#/components/schemas/Notification", "components": described["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole)
    for change, size in itertools.product(making.model.Change, (10, 20_000)):
        task = making.task(output={"text": "x" * size})
        body = json.loads(wording.webhook_body(task, change, metadata={"order": 7}, at=1.0))
        validator.validate(body)
        assert body["data"].keys() <= words.NOTIFICATION["properties"]["data"]["properties"].keys()
