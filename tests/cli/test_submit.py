"""Submitting and watching: what is sent, what is shown, and how waiting ends."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from relay.cli import client, output, waiting
from tests.cli.conftest import KEY, Canned, Peer, Runner, problem, task

CREATED = Canned(
    201, json.dumps({"request_id": "req_a", "task_id": "task_a", "status": "queued", "cost_estimate": 0.3294})
)


async def test_the_input_comes_from_text_json_and_files(relay: Runner, peer: Peer, tmp_path: Path) -> None:
    peer.will("POST /tasks", CREATED)
    (tmp_path / "input.json").write_text('{"prompt": "from the file", "seed": 7}')
    ended = await relay(
        "submit", "m", "--input", "@input.json", "-i", "prompt=a = b", "-i", "duration:=6",
        "-i", 'list:=["x"]', "--notify", "renders", "--notify", "ops", "--metadata", "order=17",
        "--idempotency-key", "mine",
    )  # fmt: skip
    assert ended.code == 0
    assert "task_a" in ended.out
    assert "0.3294 (estimated)" in ended.out
    assert peer.requests[0].json == {
        "model": "m",
        "input": {"prompt": "a = b", "seed": 7, "duration": 6, "list": ["x"]},
        "notify": ["renders", "ops"],
        "metadata": {"order": "17"},
    }
    assert peer.requests[0].headers["Idempotency-Key"] == "mine"


async def test_a_key_is_made_for_every_submission(relay: Runner, peer: Peer) -> None:
    peer.will("POST /tasks", CREATED)
    for _ in range(2):
        ended = await relay("submit", "m", "-i", "prompt=x", "--json")
        assert (ended.out, ended.err) == (CREATED.text + "\n", "")
    keys = [request.headers["Idempotency-Key"] for request in peer.requests]
    assert len(set(keys)) == 2
    assert all(len(key) > 20 for key in keys)


@pytest.mark.parametrize(
    "args",
    [
        ["-i", "prompt"],
        ["-i", "=x"],
        ["-i", "n:=six"],
        ["-i", "n:=NaN"],
        ["--input", "{"],
        ["--input", "[1]"],
        ["--input", "@missing.json"],
        ["--input", "@."],
        ["--input", "@binary"],
        ["--input", "[" * 100_000],
        ["--metadata", "x"],
        ["--idempotency-key", "ü"],
        ["--idempotency-key", ""],
    ],
)
async def test_an_unusable_argument_is_said_before_anything_is_sent(
    relay: Runner, peer: Peer, tmp_path: Path, args: list[str]
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    ended = await relay("submit", "m", *args)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {args[0]}")
    assert len(ended.err.splitlines()) == 1
    assert peer.requests == []


@pytest.mark.parametrize(
    "answer", [problem(504, "No answer yet."), problem(502, "Unreachable."), Canned(500, "?")]
)
async def test_when_it_is_unknown_what_came_of_it_the_key_is_shown(
    relay: Runner, peer: Peer, answer: Canned
) -> None:
    peer.will("POST /tasks", answer)
    ended = await relay("submit", "m", "-i", "prompt=x")
    assert ended.code == 1
    assert f"--idempotency-key {peer.requests[0].headers['Idempotency-Key']}" in ended.err


async def test_when_nobody_answered_the_key_is_shown(relay: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    ended = await relay("submit", "m", "--idempotency-key", "mine", RELAY_URL=url, RELAY_API_KEY=KEY)
    assert ended.code == 3
    assert "--idempotency-key mine" in ended.err


async def test_a_definite_refusal_is_only_the_refusal(relay: Runner, peer: Peer) -> None:
    peer.will(
        "POST /tasks", problem(422, "no", errors=[{"detail": "is required", "pointer": "/input/prompt"}])
    )
    ended = await relay("submit", "m")
    assert (ended.code, ended.err) == (1, "error: /input/prompt: is required\n")


async def test_watching_registers_and_says_how_it_stands(relay: Runner, peer: Peer) -> None:
    peer.will("PUT /tasks/task_a", Canned(201, json.dumps(task("queued", "running"))))
    peer.will("PUT /tasks/task_b", task("processing", "running"))
    ended = await relay("watch", "task_a", "task_b", "--notify", "renders")
    assert ended.out == "task_a  watching  queued\ntask_b  already watched  processing\n"
    assert peer.requests[0].json == {"notify": ["renders"]}


async def test_the_upstream_is_put_before_the_id(relay: Runner, peer: Peer) -> None:
    peer.will("GET /tasks", {"tasks": [], "next_cursor": None})
    peer.will("PUT /tasks/other:task_a", task())
    assert (await relay("watch", "task_a", "--upstream", "other")).code == 0
    assert peer.requests[0].query["upstream"] == "other"


async def test_nothing_is_registered_with_an_upstream_that_relay_does_not_know(
    relay: Runner, peer: Peer
) -> None:
    refused = problem(422, "no", errors=[{"detail": "is no configured upstream", "parameter": "upstream"}])
    peer.will("GET /tasks", refused)
    peer.will("PUT /tasks/other:task_a", task(task_id="other:task_a"))
    ended = await relay("watch", "task_a", "--upstream", "other")
    assert (ended.code, ended.err) == (1, "error: upstream: is no configured upstream\n")
    assert [request.method for request in peer.requests] == ["GET"]


@pytest.mark.parametrize(
    ("body", "code", "shown"),
    [
        (task(), 0, "https://cdn.example.com/0.mp4"),
        (task("failed", error={"code": "nsfw", "message": "Refused."}), 1, "nsfw: Refused."),
        (task("cancelled"), 1, "cancelled"),
        (task("processing", "lost"), 1, "lost: the upstream no longer knows this task"),
    ],
)
async def test_waiting_exits_by_how_it_ended(
    relay: Runner, peer: Peer, body: dict[str, Any], code: int, shown: str
) -> None:
    peer.will("POST /tasks", CREATED)
    peer.will("PUT /tasks/task_a", body)
    peer.will("GET /tasks/task_a", body)
    for command in (["submit", "m"], ["watch", "task_a"]):
        ended = await relay(*command, "--wait")
        assert ended.code == code
        assert shown in ended.out
        ended = await relay(*command, "--wait", "--json")
        assert ended.code == code
        assert json.loads(ended.out) == body


class Told(waiting.Lines):
    """Remembers what was shown."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0.0)
        self.heard: list[str] = []

    def show(self, reference: str, standing: str) -> None:
        self.heard.append(f"{reference} {standing}")

    def say(self, text: str) -> None:
        self.heard.append(text)


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def wait(*references: str, patience: float = 60.0) -> tuple[list[client.Answer], Told]:
    clock, told = Clock(), Told()
    async with client.connected() as daemon:
        ended = await waiting.until_ended(
            daemon, references, progress=told, patience=patience, sleep=clock.sleep, clock=clock
        )
    return ended, told


async def test_a_stalled_task_is_waited_for(peer: Peer) -> None:
    peer.will("GET /tasks/a", task("processing", "running"), task("processing", "stalled"), task())
    [ended], told = await wait("a")
    assert waiting.succeeded(ended.json())
    assert [line for line in told.heard if "stalled" in line]


async def test_many_tasks_are_watched_in_one_request(relay: Runner, peer: Peer) -> None:
    names = [f"t{number}" for number in range(12)]
    results = [
        {"task": name, "result": "created", "id": "tsk_a", "status": "queued", "verdict": "running"}
        for name in names
    ]
    results[1] = {"task": "t1", "result": "updated", "id": "tsk_b", "status": "failed", "verdict": "ended"}
    peer.will("POST /registrations", Canned(200, json.dumps({"registrations": results})))
    ended = await relay("watch", *names, "--notify", "renders")
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == ["t0  watching  queued", "t1  already watched  failed"]
    [request] = peer.requests
    assert request.json == {"tasks": [{"task": name, "notify": ["renders"]} for name in names]}


async def test_those_that_cannot_be_watched_are_named_and_fail_the_command(relay: Runner, peer: Peer) -> None:
    names = [f"t{number}" for number in range(10)]
    results: list[dict[str, Any]] = [
        {"task": name, "result": "created", "id": "tsk_a", "status": "queued", "verdict": "running"}
        for name in names
    ]
    results[3] = {"task": "t3", "result": "refused", "error": {"detail": "no destination named 'x'"}}
    peer.will("POST /registrations", Canned(200, json.dumps({"registrations": results})))
    ended = await relay("watch", *names, "--notify", "x")
    assert ended.code == 1
    assert "t3: no destination named 'x'" in ended.err
    assert "1 of 10 tasks cannot be watched" in ended.err


async def test_several_tasks_are_waited_for_together(peer: Peer) -> None:
    peer.will("GET /tasks/a", task("queued", "running"), task("queued", "running"), task(task_id="a"))
    peer.will("GET /tasks/b", task(task_id="b"))
    ended, _ = await wait("a", "b", "a")
    assert [answer.json()["task_id"] for answer in ended] == ["a", "b", "a"]
    assert [request.path for request in peer.requests].count("/api/v1/tasks/b") == 1


async def test_a_daemon_that_comes_back_is_waited_for(peer: Peer) -> None:
    running = task("processing", "running")
    peer.will("GET /tasks/a", running, problem(503, "Starting."), Canned(502, "?"), running, task())
    [ended], told = await wait("a")
    assert ended.status == 200
    assert sum("asking again" in line for line in told.heard) == 1
    assert told.heard.count("relay answers again") == 1


async def test_a_daemon_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RELAY_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("RELAY_API_KEY", KEY)
    with pytest.raises(output.Unreachable):
        await wait("a", patience=5.0)


async def test_what_waiting_does_not_mend_ends_it(peer: Peer) -> None:
    peer.will("GET /tasks/a", task("queued", "running"), problem(401, "Disabled."))
    with pytest.raises(client.Refused, match="Disabled"):
        await wait("a")
