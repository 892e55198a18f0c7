"""The sandbox over real HTTP: creates, the task endpoint, keys, errors, outputs."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import multidict
import pytest

from relay.catalogue import loading, models
from relay.domain import errors
from relay.sandbox import app as sandbox_app
from relay.sandbox import server
from tests.fakes import sandbox as fake

TASKS = "/api/v1/tasks"


@pytest.fixture
async def sandbox() -> AsyncIterator[fake.RunningSandbox]:
    async with fake.running_sandbox(
        stepped=True, seed=1, keys=("mv_test_a", "mv_test_b"), key="mv_test_a"
    ) as running:
        yield running


async def post(
    sandbox: fake.RunningSandbox, body: object, **headers: str
) -> tuple[int, dict[str, Any], multidict.CIMultiDictProxy[str]]:
    """Create with ``body`` (sent as it is where it is bytes); status, JSON and headers."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = sandbox.headers | {"Content-Type": "application/json"} | headers
    async with sandbox.session.post(sandbox.url + TASKS, data=io.BytesIO(raw), headers=sent) as reply:
        return reply.status, await reply.json(content_type=None), reply.headers


async def test_the_documented_request_from_create_to_end(sandbox: fake.RunningSandbox) -> None:
    status, created, headers = await post(sandbox, fake.SEED_REQUEST)
    assert status == 201
    assert headers["Content-Type"] == "application/json"
    assert "X-Sandbox-Schema" not in headers
    assert set(created) == {"request_id", "task_id", "status", "cost_estimate"}
    assert created["task_id"].startswith("task_")
    assert created["request_id"].startswith("req_")
    assert (created["status"], created["cost_estimate"]) == ("queued", 0.3294)

    running = created | {"cost_actual": None, "output": None}
    assert await sandbox.task(created["task_id"]) == running

    seen = {"queued"}
    while "processing" not in seen:
        sandbox.advance(1)
        seen.add((await sandbox.task(created["task_id"]))["status"])
    assert seen == {"queued", "processing"}

    sandbox.finish()
    ended = await sandbox.task(created["task_id"])
    url = f"{sandbox.url}/outputs/{created['task_id']}/0.mp4"
    assert ended == running | {
        "status": "succeeded",
        "cost_actual": 0.3294,
        "output": {"videos": [{"url": url}]},
    }


@pytest.mark.parametrize(
    ("prompt", "end", "error"),
    [("a [fail] b", "failed", {"code", "message"}), ("a [cancel] b", "cancelled", None)],
)
async def test_tasks_that_do_not_succeed(
    sandbox: fake.RunningSandbox, prompt: str, end: str, error: set[str] | None
) -> None:
    task_id = await sandbox.submit(prompt=prompt)
    sandbox.finish()
    ended = await sandbox.task(task_id)
    assert (ended["status"], ended["cost_actual"], ended["output"]) == (end, 0, None)
    assert (set(ended["error"]) if "error" in ended else None) == error


@pytest.mark.parametrize("model", list(loading.load()), ids=lambda model: model.slug)
async def test_every_example_runs_at_its_documented_cost(
    sandbox: fake.RunningSandbox, model: models.Model
) -> None:
    status, created, headers = await post(sandbox, {"model": model.slug, "input": model.example_input})
    assert (status, created["cost_estimate"]) == (201, float(model.cost_estimate))
    assert headers.get("X-Sandbox-Schema") == (None if model.schema_complete else "partial")
    sandbox.finish()
    output = (await sandbox.task(created["task_id"]))["output"]
    assert list(output) == [model.output_kind]
    async with sandbox.session.get(output[model.output_kind][0]["url"]) as reply:
        assert reply.status == 200
        expected = "video/mp4" if model.output_kind == "videos" else "image/png"
        assert reply.headers["Content-Type"] == expected


async def test_the_same_seed_tells_the_same_story() -> None:
    async def story(seed: int | None) -> list[object]:
        async with fake.running_sandbox(stepped=True, seed=seed) as sandbox:
            made = [await sandbox.submit() for _ in range(3)]
            sandbox.advance(100)
            return [(task_id, (await sandbox.task(task_id))["status"]) for task_id in made]

    assert await story(7) == await story(7)
    assert await story(7) != await story(8)
    assert await story(None) != await story(None)


# Idempotency


async def test_a_repeated_create_gets_the_first_answer(sandbox: fake.RunningSandbox) -> None:
    first = await post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k-1"})
    sandbox.finish()
    shuffled = {
        "input": dict(reversed(fake.SEED_REQUEST["input"].items())),
        "model": fake.SEED_REQUEST["model"],
    }
    again = await post(sandbox, shuffled, **{"Idempotency-Key": '"k-1"'})
    assert (first[0], again[0]) == (201, 200)
    assert again[1] == first[1]
    assert "Idempotent-Replayed" not in first[2]
    assert again[2]["Idempotent-Replayed"] == "true"


async def test_copies_at_the_same_time_make_one_task(sandbox: fake.RunningSandbox) -> None:
    answers = await asyncio.gather(
        *(post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k"}) for _ in range(20))
    )
    assert sorted(status for status, _, _ in answers) == [200] * 19 + [201]
    assert len({body["task_id"] for _, body, _ in answers}) == 1


async def test_a_key_with_different_input_is_a_conflict(sandbox: fake.RunningSandbox) -> None:
    await post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k"})
    other = {"model": fake.MODEL, "input": {"prompt": "another"}}
    status, body, _ = await post(sandbox, other, **{"Idempotency-Key": "k"})
    assert (status, body["status"]) == (409, 409)


async def test_null_is_not_absent(sandbox: fake.RunningSandbox) -> None:
    absent = {"model": "happyhorse-1-0", "input": {"prompt": "x"}}
    null = {"model": "happyhorse-1-0", "input": {"prompt": "x", "size": None}}
    assert (await post(sandbox, absent, **{"Idempotency-Key": "k"}))[0] == 201
    assert (await post(sandbox, null, **{"Idempotency-Key": "k"}))[0] == 409


async def test_a_refused_create_leaves_its_key_free(sandbox: fake.RunningSandbox) -> None:
    wrong = {"model": fake.MODEL, "input": {"prompt": ""}}
    assert (await post(sandbox, wrong, **{"Idempotency-Key": "k"}))[0] == 422
    assert (await post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k"}))[0] == 201


async def test_two_callers_with_one_key_make_two_tasks(sandbox: fake.RunningSandbox) -> None:
    _, mine, _ = await post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k"})
    status, theirs, _ = await post(
        sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": "k", "Authorization": "Bearer mv_test_b"}
    )
    assert status == 201
    assert theirs["task_id"] != mine["task_id"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schlüssel"])
async def test_unusable_idempotency_keys(sandbox: fake.RunningSandbox, key: str) -> None:
    status, body, _ = await post(sandbox, fake.SEED_REQUEST, **{"Idempotency-Key": key})
    assert status == 400
    assert "Idempotency-Key" in body["detail"]


# Keys


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer mv_test_c", "Basic mv_test_a", "mv_test_a", "Bearer ü"]
)
async def test_without_a_known_key_nothing_is_told(sandbox: fake.RunningSandbox, value: str | None) -> None:
    task_id = await sandbox.submit()
    headers = {} if value is None else {"Authorization": value}
    for method, path in [
        ("POST", TASKS),
        ("GET", f"{TASKS}/{task_id}"),
        ("GET", f"{TASKS}/{task_id}/events"),
    ]:
        async with sandbox.session.request(method, sandbox.url + path, headers=headers) as reply:
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
            assert reply.content_type == "application/problem+json"


async def test_a_disabled_key_is_told_from_an_unknown_one() -> None:
    keys = ("mv_test_a", "mv_test_b", "mv_test_c")
    async with fake.running_sandbox(
        keys=keys, key="mv_test_a", disabled_keys=("mv_test_c", "mv_d")
    ) as sandbox:
        task_id = await sandbox.submit()
        for key, expected in [("mv_test_b", 404), ("mv_test_c", 403), ("mv_d", 403), ("mv_e", 401)]:
            headers = {"Authorization": f"Bearer {key}"}
            for path in (f"{TASKS}/{task_id}", f"{TASKS}/{task_id}/events"):
                async with sandbox.session.get(sandbox.url + path, headers=headers) as reply:
                    assert reply.status == expected
                    assert reply.content_type == "application/problem+json"
                    assert ("WWW-Authenticate" in reply.headers) == (expected == 401)
        status, _, _ = await post(sandbox, fake.SEED_REQUEST, Authorization="Bearer mv_test_c")
        assert (status, sandbox.created) == (403, 1)


async def test_tasks_belong_to_their_key(sandbox: fake.RunningSandbox) -> None:
    task_id = await sandbox.submit()
    for path in (f"{TASKS}/{task_id}", f"{TASKS}/{task_id}/events"):
        async with sandbox.session.get(
            sandbox.url + path, headers={"Authorization": "bearer mv_test_b"}
        ) as reply:
            assert reply.status == 404


# Errors


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"model": NaN}', 400),
        (b'{"model": "x", "input": {"n": 1e400}}', 400),
        (b'{"model": "x", "input": {"n": ' + b"1" * 5000 + b"}}", 400),
        (b'{"model": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
    ],
)
async def test_bodies_that_are_no_request(sandbox: fake.RunningSandbox, raw: bytes, status: int) -> None:
    answered, body, headers = await post(sandbox, raw)
    assert answered == body["status"] == status
    assert headers["Content-Type"].startswith("application/problem+json")
    assert set(body) - {"errors"} == {"type", "title", "status", "detail"}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["", ""]),
        ({"model": 7, "input": []}, ["/input", "/model"]),
        ({"model": "minimax-hailuo-2.3", "input": {}}, ["/model"]),
        ({"model": fake.MODEL, "input": {}}, ["/input"]),
        ({"model": fake.MODEL, "input": {"prompt": "x"}, "notify": []}, ["/notify"]),
        (
            {"model": fake.MODEL, "input": {"prompt": "x", "duration": 5, "watermark": "no", "size": 1}},
            ["/input/duration", "/input/size", "/input/watermark"],
        ),
        ({"model": "wan2-7-videoedit", "input": {"video_urls": [], "seed": "1"}}, ["/input/seed"]),
        (
            {
                "model": fake.MODEL,
                "input": {"prompt": "x", "first_frame_image": "data:video/mp4;base64,AA=="},
            },
            ["/input/first_frame_image"],
        ),
        (
            {"model": "viduq3", "input": {"prompt": "x", "image_urls": ["data:image/png;base64,A"]}},
            ["/input/image_urls/0"],
        ),
    ],
)
async def test_every_fault_is_told_at_once(
    sandbox: fake.RunningSandbox, body: object, pointers: list[str]
) -> None:
    status, problem, _ = await post(sandbox, body)
    assert status == 422
    assert sorted(fault["pointer"] for fault in problem["errors"]) == pointers
    assert all(fault["detail"] for fault in problem["errors"])


async def test_an_unknown_model_names_the_nearest(sandbox: fake.RunningSandbox) -> None:
    _, problem, _ = await post(sandbox, {"model": "minimax-hailuo-2.3", "input": {"prompt": "x"}})
    assert "minimax-hailuo-2-3" in problem["detail"]


async def test_a_refusal_by_a_partial_schema_says_that_it_is_partial(sandbox: fake.RunningSandbox) -> None:
    status, _, headers = await post(sandbox, {"model": "viduq3", "input": {"prompt": "x"}})
    assert (status, headers["X-Sandbox-Schema"]) == (422, "partial")


async def test_a_body_over_the_limit(sandbox: fake.RunningSandbox) -> None:
    raw = b" " * (sandbox_app.BODY_MAX + 1)
    status, problem, _ = await post(sandbox, raw)
    assert (status, problem["status"]) == (413, 413)


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Encoding": "gzip"}]
)
async def test_only_plain_json_is_read(sandbox: fake.RunningSandbox, headers: dict[str, str]) -> None:
    sent = sandbox.headers | {"Content-Type": "application/json"} | headers
    async with sandbox.session.post(
        sandbox.url + TASKS, data=b"\x1f\x8bnot gzip", headers=sent, compress=False
    ) as reply:
        assert reply.status == 415
        assert reply.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", TASKS, 405),
        ("DELETE", f"{TASKS}/task_x", 405),
        ("GET", f"{TASKS}/..%2f", 404),
    ],
)
async def test_other_routes_are_problems_too(
    sandbox: fake.RunningSandbox, method: str, path: str, status: int
) -> None:
    async with sandbox.session.request(method, sandbox.url + path, headers=sandbox.headers) as reply:
        assert reply.status == status
        assert reply.content_type == "application/problem+json"
        assert ("Allow" in reply.headers) == (status == 405)


async def test_an_unknown_task(sandbox: fake.RunningSandbox) -> None:
    for path in (f"{TASKS}/task_nobody", f"{TASKS}/task_nobody/events"):
        async with sandbox.session.get(sandbox.url + path, headers=sandbox.headers) as reply:
            assert reply.status == 404


async def test_full_of_running_tasks_it_says_when_to_come_back() -> None:
    async with fake.running_sandbox(stepped=True, tasks_max=1) as sandbox:
        first = await sandbox.submit(idempotency_key="k")
        status, _, headers = await post(sandbox, fake.SEED_REQUEST)
        assert (status, headers["Retry-After"]) == (503, "5")
        for key in ("other", "k"):
            sandbox.finish()
            latest = await sandbox.submit(idempotency_key=key)
        assert latest != first  # the key went with its task


# Outputs


async def test_outputs_are_there_once_the_task_succeeded(sandbox: fake.RunningSandbox) -> None:
    done, failed = await sandbox.submit(), await sandbox.submit(prompt="[fail]")
    url = f"{sandbox.url}/outputs/{done}/0.mp4"
    async with sandbox.session.get(url) as reply:
        assert reply.status == 404
    sandbox.finish()
    async with sandbox.session.get(url) as reply:
        assert reply.status == 200
        assert await reply.read() == sample("sample.mp4")
    for path in (f"{failed}/0.mp4", f"{done}/1.mp4", f"{done}/0.png", f"{done}/sample.mp4", "task_x/0.mp4"):
        async with sandbox.session.get(f"{sandbox.url}/outputs/{path}") as reply:
            assert reply.status == 404


async def test_outputs_can_be_read_in_parts(sandbox: fake.RunningSandbox) -> None:
    task_id = await sandbox.submit()
    sandbox.finish()
    url = f"{sandbox.url}/outputs/{task_id}/0.mp4"
    async with sandbox.session.get(url, headers={"Range": "bytes=4-7"}) as reply:
        assert reply.status == 206
        assert await reply.read() == b"ftyp"
        assert reply.headers["Content-Range"] == f"bytes 4-7/{len(sample('sample.mp4'))}"
    async with sandbox.session.head(url) as reply:
        assert reply.headers["Content-Length"] == str(len(sample("sample.mp4")))


async def test_as_many_pictures_as_were_asked_for(sandbox: fake.RunningSandbox) -> None:
    task_id = await sandbox.submit(model="gemini-3-pro-image-preview-official", n=3)
    sandbox.finish()
    images = (await sandbox.task(task_id))["output"]["images"]
    assert [urlsplit(image["url"]).path for image in images] == [
        f"/outputs/{task_id}/{number}.png" for number in range(3)
    ]


async def test_links_lead_back_the_way_the_client_came(sandbox: fake.RunningSandbox) -> None:
    task_id = await sandbox.submit()
    sandbox.finish()
    headers = sandbox.headers | {"Host": "sandbox.test:99"}
    async with sandbox.session.get(f"{sandbox.url}{TASKS}/{task_id}", headers=headers) as reply:
        body = await reply.json()
    assert body["output"]["videos"][0]["url"] == f"http://sandbox.test:99/outputs/{task_id}/0.mp4"


def sample(name: str) -> bytes:
    return (resources.files("relay.sandbox") / "media" / name).read_bytes()


def test_the_samples_are_small_and_start_playing_at_once() -> None:
    video, picture = sample("sample.mp4"), sample("sample.png")
    assert max(len(video), len(picture)) <= 20_000
    assert video[4:8] == b"ftyp"
    assert 0 < video.find(b"moov") < video.find(b"mdat")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")


# Running


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"keys": ()}, "--key"),
        ({"keys": ("a b",)}, "--key"),
        ({"disabled_keys": ("",)}, "--disabled-key"),
        ({"faults": ("4290",)}, "--fault: no fault is called '4290'; did you mean 429"),
        ({"faults": ("",)}, "--fault: no fault is called '';"),
        ({"faults": ("429:1.1",)}, "--fault 429: give a share"),
        ({"faults": ("429:",)}, "--fault 429: give a share"),
        ({"faults": ("stall:nan",)}, "--fault stall: give a share"),
        ({"speed": 0.0}, "--speed"),
        ({"speed": float("nan")}, "--speed"),
        ({"events": "xml"}, "--events"),
    ],
)
def test_unusable_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=named):
        sandbox_app.create_app(**options)


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await server.serve(sandbox_app.create_app(), port=taken.getsockname()[1])


async def test_real_time_at_high_speed_brings_every_task_to_its_end() -> None:
    async with fake.running_sandbox(speed=100_000.0) as sandbox:
        task_id = await sandbox.submit()
        async with asyncio.timeout(10):
            while (await sandbox.task(task_id))["status"] != "succeeded":
                pass


@pytest.mark.parametrize(
    ("framing", "rest"),
    [
        ("Content-Length: 10", b"abc"),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", b"zz\r\n"),
    ],
)
async def test_bodies_that_break_off_are_no_failure_of_ours(
    sandbox: fake.RunningSandbox, framing: str, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(sandbox.url)
    head = f"POST {TASKS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n"
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"{head}Authorization: Bearer {sandbox.key}\r\n\r\n".encode() + rest)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert [record for record in caplog.records if record.name == "relay.sandbox"] == []
    await sandbox.submit()
