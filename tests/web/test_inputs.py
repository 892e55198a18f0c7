"""Inputs are checked before money is spent; the catalogue that they are checked against can be read."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import sandbox
from tests.fakes import upstream as upstreams

SEED = sandbox.SEED_REQUEST
CREATED = {"request_id": "r", "task_id": "task_1", "status": "queued", "cost_estimate": 0.5}


def asking(**task_input: Any) -> dict[str, Any]:
    return {**SEED, "input": {**SEED["input"], **task_input}}


def data_uri(size: int, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(bytes(size)).decode()}"


async def test_all_that_is_wrong_is_told_at_once_and_nothing_is_sent(api: Any) -> None:
    bad = asking(duration=7, resolution="4k", prompt="", colour="red", first_frame_image="ftp://x")
    reply = await api.call("POST", "/tasks", json=bad)
    assert reply.status == 422
    assert {error["pointer"] for error in reply.body["errors"]} == {
        "/input/duration",
        "/input/resolution",
        "/input/prompt",
        "/input/colour",
        "/input/first_frame_image",
    }
    assert "4k" not in json.dumps(reply.body)
    assert "ftp" not in json.dumps(reply.body)
    assert api.upstream.requests == []


async def test_of_a_schema_known_in_part_what_is_known_is_checked(api: Any) -> None:
    reply = await api.call(
        "POST", "/tasks", json={"model": "veo3-1-fast", "input": {"prompt": 5, "other": 1}}
    )
    assert [error["pointer"] for error in reply.body["errors"]] == ["/input/prompt"]
    good = {"model": "veo3-1-fast", "input": {"prompt": "a cat", "unheard_of": True}}
    assert (await api.call("POST", "/tasks", json=good)).status == 201


async def test_a_model_that_is_not_known_is_the_upstreams_to_judge(start: Any) -> None:
    async with upstreams.running() as fake, start(fake.url) as api:
        problem = {"detail": "no such model", "errors": [{"detail": "unknown", "pointer": "/model"}]}
        fake.create(upstreams.Json(problem, status=422), upstreams.Json(CREATED, status=201))
        body = {"model": "brand-new-9", "input": {"whatever": [1, {"x": None}]}}
        refused = await api.call("POST", "/tasks", json=body)
        assert (refused.status, refused.body["detail"]) == (422, "no such model")
        assert refused.body["errors"] == [{"detail": "unknown", "pointer": "/model"}]
        assert (await api.call("POST", "/tasks", json=body)).status == 201
        assert json.loads(fake.requests[-1].body) == body or fake.requests[-1].method == "GET"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (data_uri(10, "video/mp4"), "not of a type accepted here: image/*"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:image/png", "no data URI"),
        ("http://", "hosted http(s) URL or a data URI"),
    ],
)
async def test_media_that_cannot_be_meant_are_refused(api: Any, uri: str, says: str) -> None:
    reply = await api.call("POST", "/tasks", json=asking(first_frame_image=uri))
    assert reply.status == 422
    [error] = reply.body["errors"]
    assert error["pointer"] == "/input/first_frame_image"
    assert says in error["detail"]
    assert api.upstream.requests == []


async def test_a_data_uri_over_the_limit_is_refused(start: Any) -> None:
    async with sandbox.running_sandbox() as upstream, start(upstream.url, server={"port": 0}) as api:
        reply = await api.call("POST", "/tasks", json=asking(first_frame_image=data_uri(700_001)))
        assert reply.status == 422
        assert "hosted URL" in reply.body["detail"]


async def test_media_are_not_kept_with_the_submission(start: Any) -> None:
    async with upstreams.running() as fake, start(fake.url) as api:
        fake.create(upstreams.Json(CREATED, status=201))
        body = asking(first_frame_image=data_uri(20_000))
        headers = {"Idempotency-Key": "one"}
        assert (await api.call("POST", "/tasks", json=body, headers=headers)).status == 201
        sent = next(r for r in fake.requests if r.method == "POST")
        assert json.loads(sent.body) == body
        store = api.running.services.store
        [listed] = (await store.submissions(None, before=None, limit=10)).rows
        kept = await store.submission(listed.id)
        assert len(kept.request) < 1000
        assert b"data:image/png;sha256=" in kept.request
        again = await api.call("POST", "/tasks", json=body, headers=headers)
        assert (again.status, again.body["task_id"]) == (200, "task_1")
        other = asking(first_frame_image=data_uri(20_001))
        assert (await api.call("POST", "/tasks", json=other, headers=headers)).status == 409


# -- the catalogue ----------------------------------------------------------------------------------


async def test_models_are_listed(api: Any) -> None:
    key, _ = await api.client_key()
    reply = await api.call("GET", "/models", key=key)
    assert reply.status == 200
    assert len(reply.body["models"]) == 33
    [seed] = [model for model in reply.body["models"] if model["slug"] == SEED["model"]]
    assert seed == {
        "slug": SEED["model"],
        "title": seed["title"],
        "description": seed["description"],
        "output_kind": "videos",
        "cost_estimate": 0.3294,
        "schema_complete": True,
        "retired": False,
    }


async def test_a_model_is_shown_with_its_schema(api: Any) -> None:
    reply = await api.call("GET", f"/models/{SEED['model']}")
    assert reply.body["example_input"] == SEED["input"]
    hint = reply.body["input_schema"]["properties"]["first_frame_image"]["x-playground"]
    assert hint["accept"] == "image/*"


async def test_an_unknown_model_names_the_nearest(api: Any) -> None:
    reply = await api.call("GET", "/models/minimax-hailuo-2-4")
    assert reply.status == 404
    assert "minimax-hailuo-2-3" in reply.body["detail"]


async def test_the_operator_adds_and_retires_models(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    own = {
        "slug": "ours-1",
        "output_kind": "images",
        "cost_estimate": 0.1,
        "example_input": {"text": "x"},
        "input_schema": {"type": "object", "required": ["text"]},
    }
    file.write_text(json.dumps({"models": [own]}))
    catalogue = {"files": [str(file)], "retired": [SEED["model"]]}
    async with sandbox.running_sandbox() as upstream, start(upstream.url, catalogue=catalogue) as api:
        assert (await api.call("GET", "/models/ours-1")).body["input_schema"]["required"] == ["text"]
        assert (await api.call("GET", f"/models/{SEED['model']}")).body["retired"] is True
        retired = await api.call("POST", "/tasks", json=SEED)
        assert retired.status == 422
        assert [error["pointer"] for error in retired.body["errors"]] == ["/model"]
        bad = await api.call("POST", "/tasks", json={"model": "ours-1", "input": {}})
        assert bad.status == 422
        assert upstream.requests == []
