"""Submitting through relay: the seed's own request, idempotency, and every way it can be refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.fakes import sandbox
from tests.fakes import upstream as upstreams

SEED = sandbox.SEED_REQUEST


async def test_the_seeds_request_is_answered_as_by_the_upstream(api: Any) -> None:
    raw = json.dumps(SEED).encode()
    reply = await api.call("POST", "/tasks", raw=raw, headers={"Idempotency-Key": "task_1"})
    assert reply.status == 201
    assert set(reply.body) >= {"request_id", "task_id", "status", "cost_estimate"}
    assert isinstance(reply.body["cost_estimate"], float)
    assert reply.headers["location"] == f"/api/v1/tasks/{reply.body['task_id']}"
    shown = await api.call("GET", reply.headers["location"].removeprefix("/api/v1"))
    assert shown.body["relay"]["model"] == SEED["model"]
    assert "idempotent-replayed" not in reply.headers


@pytest.mark.parametrize("spelling", ["order-7", '"order-7"'])
async def test_a_replay_is_the_first_answer(api: Any, spelling: str) -> None:
    first = await api.call("POST", "/tasks", json=SEED, headers={"Idempotency-Key": "order-7"})
    again = await api.call("POST", "/tasks", json=SEED, headers={"Idempotency-Key": spelling})
    assert (first.status, again.status) == (201, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.body == first.body
    assert [method for method, _ in api.upstream.requests].count("POST") == 1


async def test_the_same_key_with_another_input_is_a_conflict(api: Any) -> None:
    headers = {"Idempotency-Key": "order-7"}
    await api.call("POST", "/tasks", json=SEED, headers=headers)
    other = {**SEED, "input": {**SEED["input"], "duration": 10}}
    reply = await api.call("POST", "/tasks", json=other, headers=headers)
    assert reply.status == 409
    assert "new key" in reply.body["detail"]


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "é", '""', "a\tb"])
async def test_an_unusable_idempotency_key_is_a_400(api: Any, key: str) -> None:
    reply = await api.call("POST", "/tasks", json=SEED, headers={"Idempotency-Key": key})
    assert reply.status == 400
    assert reply.body["errors"][0]["parameter"] == "Idempotency-Key"


async def test_body_and_header_name_destinations_together(api: Any) -> None:
    body = {**SEED, "notify": ["pipeline"], "statuses": ["succeeded"], "metadata": {"order": 7}}
    reply = await api.call("POST", "/tasks", json=body, headers={"Relay-Notify": "archive, pipeline"})
    assert reply.status == 201
    [registration] = (await api.call("GET", f"/tasks/{reply.body['task_id']}")).body["relay"]["registrations"]
    assert registration == {
        "key": "key_admin",
        "notify": ["pipeline", "archive"],
        "statuses": ["succeeded"],
        "metadata": {"order": 7},
    }


async def test_an_unknown_destination_is_told_where_it_was_named(api: Any) -> None:
    in_body = await api.call("POST", "/tasks", json={**SEED, "notify": ["pipeline", "nobody"]})
    assert in_body.status == 422
    assert in_body.body["errors"][0]["pointer"] == "/notify/1"
    in_header = await api.call("POST", "/tasks", json=SEED, headers={"Relay-Notify": "pipeline, nobody"})
    assert in_header.status == 422
    assert in_header.body["errors"][0]["parameter"] == "Relay-Notify"
    many = ", ".join(f"d{n}" for n in range(33))
    assert (await api.call("POST", "/tasks", json=SEED, headers={"Relay-Notify": many})).status == 422
    assert api.upstream.requests == []


async def test_a_misspelling_of_ours_is_refused_before_anything_is_sent(api: Any) -> None:
    reply = await api.call("POST", "/tasks", json={**SEED, "notfy": ["pipeline"]})
    assert reply.status == 422
    assert reply.body["errors"] == [
        {"detail": "is not a member here; did you mean 'notify'?", "pointer": "/notfy"}
    ]
    assert api.upstream.requests == []


async def test_wrong_types_are_refused_all_at_once(api: Any) -> None:
    reply = await api.call("POST", "/tasks", json={"model": 1, "input": [], "statuses": "x"})
    assert reply.status == 422
    assert [error["pointer"] for error in reply.body["errors"]] == ["/statuses", "/model", "/input"]


@pytest.mark.parametrize(("raw", "status"), [(b'{"model": ', 400), (b"[]", 422), (b'{"a": 1, "a": 2}', 422)])
async def test_bad_json(api: Any, raw: bytes, status: int) -> None:
    assert (await api.call("POST", "/tasks", raw=raw)).status == status


async def test_a_form_is_refused_with_advice(api: Any) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await api.call("POST", "/tasks", raw=json.dumps(SEED).encode(), headers=headers)
    assert reply.status == 415
    assert "Content-Type: application/json" in reply.body["detail"]


async def test_what_the_upstream_refuses_keeps_its_status_and_its_words(api: Any) -> None:
    bad = {**SEED, "input": {**SEED["input"], "duration": 7}}
    reply = await api.call("POST", "/tasks", json=bad, headers={"Idempotency-Key": "order-8"})
    assert reply.status == 422
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert [error["pointer"] for error in reply.body["errors"]] == ["/input/duration"]
    assert (await api.call("GET", "/tasks")).body["tasks"] == []
    again = await api.call("POST", "/tasks", json=SEED, headers={"Idempotency-Key": "order-8"})
    assert again.status == 201


async def test_foreign_members_reach_the_upstream(start: Any) -> None:
    created = {"request_id": "r", "task_id": "task_1", "status": "queued", "cost_estimate": 0.5}
    async with upstreams.running() as fake, start(fake.url) as api:
        fake.create(upstreams.Json(created, status=201))
        body = {**SEED, "callback": "x", "notify": ["pipeline"]}
        assert (await api.call("POST", "/tasks", json=body)).status == 201
        sent = json.loads(next(r for r in fake.requests if r.method == "POST").body)
        assert sent == {**SEED, "callback": "x"}


async def test_a_refused_credential_is_a_bad_gateway(start: Any) -> None:
    async with upstreams.running() as fake, start(fake.url) as api:
        fake.create(upstreams.Json({"detail": "who?"}, status=401))
        reply = await api.call("POST", "/tasks", json=SEED)
        assert reply.status == 502
        assert "mindvideo" in reply.body["detail"]
        assert "mv_test" not in str(reply.body)


async def test_an_unreachable_upstream_is_a_504_that_can_be_asked_again(start: Any) -> None:
    created = {"request_id": "r", "task_id": "task_1", "status": "queued", "cost_estimate": 0.5}
    async with (
        upstreams.running() as fake,
        start(fake.url, upstream={"submit_timeout": 0.3, "request_timeout": 0.3}) as api,
    ):
        fake.create(upstreams.Status(503, b"away", "text/plain"))
        reply = await api.call("POST", "/tasks", json=SEED)
        assert reply.status == 504
        key = reply.headers["idempotency-key"]
        fake.create(upstreams.Json(created, status=201))
        async with asyncio.timeout(15):
            again = reply
            while again.status == 504:
                again = await api.call("POST", "/tasks", json=SEED, headers={"Idempotency-Key": key})
        assert again.body["task_id"] == "task_1"
        keys = {r.headers["Idempotency-Key"] for r in fake.requests if r.method == "POST"}
        assert len(keys) == 1


async def test_an_upstream_that_is_not_the_default_is_named_in_the_location(start: Any) -> None:
    created = {"request_id": "r", "task_id": "task_1", "status": "queued", "cost_estimate": 0.5}
    async with upstreams.running() as fake:
        other = {"base_url": fake.url, "api_key": "k"}
        first = {"base_url": "http://127.0.0.1:9", "api_key": "k"}
        async with start(
            fake.url, upstreams={"mindvideo": first, "other": other}, default_upstream="mindvideo"
        ) as api:
            fake.create(upstreams.Json(created, status=201))
            reply = await api.call("POST", "/tasks", json={**SEED, "upstream": "other"})
            assert reply.headers["location"] == "/api/v1/tasks/other:task_1"
            shown = await api.call("GET", "/tasks/other:task_1")
            assert shown.body["relay"]["upstream"] == "other"
