"""Lists and shows: tables for people, the API's own words for machines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Canned, Peer, Runner, task

DELIVERY: dict[str, Any] = {
    "id": "msg_a",
    "task_id": "task_a",
    "upstream": "mindvideo",
    "destination": "renders",
    "type": "task.succeeded",
    "state": "dead",
    "attempts_made": 2,
    "next_attempt_at": None,
    "reason": "http_500",
    "created_at": "2026-11-23T01:02:03.456Z",
    "delivered_at": None,
}
ATTEMPT: dict[str, Any] = {
    "number": 1,
    "started_at": "2026-11-23T01:02:04.000Z",
    "duration_ms": 12.4,
    "outcome": "retry",
    "reason": "http_500",
    "status_code": 500,
    "detail": "no \x1b[2J way",
}
DESTINATION: dict[str, Any] = {
    "name": "renders",
    "format": "webhook",
    "address": "https://example.com",
    "statuses": ["succeeded", "failed"],
    "prompt": True,
    "source": "configuration",
}
KEY_ROW: dict[str, Any] = {
    "id": "key_a",
    "name": "ops",
    "role": "admin",
    "enabled": False,
    "created_at": "2026-11-23T01:02:03.456Z",
    "last_used_at": None,
}
EVENT: dict[str, Any] = {
    "id": "evt_a",
    "type": "task.succeeded",
    "status": "succeeded",
    "timestamp": "2026-11-23T01:02:03.456Z",
    "data": {},
}
LISTS = [
    ("tasks ls", "GET /tasks", {"tasks": [task()], "next_cursor": "Y3Vy"}, ["mindvideo:task_a", "0.3294"]),
    ("tasks events task_a", "GET /tasks/task_a/events", task(events=[EVENT], next_cursor="x"), ["evt_a"]),
    ("deliveries ls", "GET /deliveries", {"deliveries": [DELIVERY], "next_cursor": None}, ["msg_a", "dead"]),
    ("destinations ls", "GET /destinations", {"destinations": [DESTINATION]}, ["succeeded, failed"]),
    ("keys ls", "GET /keys", {"keys": [KEY_ROW], "next_cursor": None}, ["key_a", "no"]),
    ("tasks show task_a", "GET /tasks/task_a", task(), ["https://cdn.example.com/0.mp4", "renders"]),
    ("deliveries show msg_a", "GET /deliveries/msg_a", DELIVERY | {"attempts": [ATTEMPT]}, ["12 ms", "500"]),
    ("destinations show renders", "GET /destinations/renders", DESTINATION, ["https://example.com"]),
]


@pytest.mark.parametrize(("command", "request_", "answer", "shown"), LISTS)
async def test_for_people(
    relay: Runner, peer: Peer, command: str, request_: str, answer: dict[str, Any], shown: list[str]
) -> None:
    peer.will(request_, answer)
    ended = await relay(*command.split())
    assert ended.code == 0
    for word in shown:
        assert word in ended.out
    assert "\x1b" not in ended.out + ended.err  # neither ours, off a terminal, nor the peer's


@pytest.mark.parametrize(("command", "request_", "answer", "shown"), LISTS)
async def test_for_machines_it_is_the_answer_itself(
    relay: Runner, peer: Peer, command: str, request_: str, answer: dict[str, Any], shown: list[str]
) -> None:
    text = json.dumps(answer, indent=1)
    peer.will(request_, Canned(text=text))
    ended = await relay(*command.split(), "--json")
    assert (ended.code, ended.out, ended.err) == (0, text + "\n", "")


async def test_columns_are_aligned(relay: Runner, peer: Peer) -> None:
    rows = [DELIVERY | {"destination": name} for name in ("a", "レンダリング", "a_long_one")]
    peer.will("GET /deliveries", {"deliveries": rows, "next_cursor": None})
    lines = (await relay("deliveries", "ls")).out.splitlines()
    assert len(lines) == 4
    # A wide character takes two columns.
    places = {
        line.index("dead") + sum(2 * (char > "\u2e80") - (char > "\u2e80") for char in line)
        for line in lines[1:]
    }
    assert places == {lines[0].index("STATE")}


async def test_a_task_is_shown_without_what_is_not_known(relay: Runner, peer: Peer) -> None:
    body = task()
    body["relay"]["registrations"].append({"key": "key_b", "notify": [], "statuses": None, "metadata": None})
    peer.will("GET /tasks/task_a", body)
    lines = (await relay("tasks", "show", "task_a")).out.splitlines()
    assert lines[-2].split(maxsplit=1) == ["tells", "renders (for key_a)"]
    assert lines[-1].split(maxsplit=2) == ["tells", "2", "whom routes name (for key_b)"]
    assert not any("poll" in line or "finished" in line for line in lines)


@pytest.mark.parametrize("command", ["tasks stop", "deliveries redeliver"])
async def test_a_refusal_names_which_of_several_is_meant(relay: Runner, peer: Peer, command: str) -> None:
    peer.will("DELETE /tasks/one", Canned(204))
    peer.will("POST /deliveries/one/redeliver", DELIVERY | {"state": "pending"})
    ended = await relay(*command.split(), "one", "two")
    assert ended.out.startswith("one  ")
    assert (ended.code, ended.err) == (1, "error: two: There is no such thing.\n")


async def test_an_empty_list_says_so_on_stderr(relay: Runner, peer: Peer) -> None:
    peer.will("GET /deliveries", {"deliveries": [], "next_cursor": None})
    ended = await relay("deliveries", "ls")
    assert (ended.code, ended.out, ended.err) == (0, "", "no deliveries\n")


async def test_filters_and_pages_are_the_apis(relay: Runner, peer: Peer) -> None:
    peer.will("GET /deliveries", {"deliveries": [DELIVERY], "next_cursor": "bmV4dA"})
    ended = await relay(
        "deliveries", "ls", "--state", "dead", "--destination", "renders", "--task", "task_a", "--limit", "1",
        "--cursor", "abc",
    )  # fmt: skip
    assert ended.code == 0
    assert peer.requests[0].query == {
        "state": "dead",
        "destination": "renders",
        "task": "task_a",
        "limit": "1",
        "cursor": "abc",
    }
    assert "--cursor bmV4dA" in ended.err


async def test_every_filter_of_the_api_is_an_option(relay: Runner, peer: Peer) -> None:
    peer.will("GET /tasks", {"tasks": [], "next_cursor": "bmV4dA"})
    peer.will("GET /deliveries", {"deliveries": [], "next_cursor": None})
    ended = await relay(
        "tasks", "ls", "--model", "veo3-*", "--metadata", "order=47=11", "--metadata", "shop=north",
        "--text", "a fox", "--since", "2026-11-23T01:02:03+02:00", "--until", "2026-11-24T00:00:00Z",
    )  # fmt: skip
    assert ended.code == 0
    assert peer.requests[0].query == {
        "model": "veo3-*",
        "metadata.order": "47=11",
        "metadata.shop": "north",
        "text": "a fox",
        "created_after": "2026-11-23T01:02:03+02:00",
        "created_before": "2026-11-24T00:00:00Z",
    }
    assert ended.err.splitlines() == ["no tasks", "there are more: --cursor bmV4dA"]
    since = "2026-11-23T01:02:03Z"
    await relay("deliveries", "ls", "--type", "task.failed", "--reason", "timeout", "--since", since)
    assert peer.requests[1].query == {"type": "task.failed", "reason": "timeout", "created_after": since}
    refused = await relay("tasks", "ls", "--metadata", "order")
    assert (refused.code, refused.err) == (2, "error: --metadata order: give KEY=VALUE\n")


async def test_stop_redeliver_and_keys_call_their_routes(relay: Runner, peer: Peer) -> None:
    peer.will("DELETE /tasks/mindvideo:task_a", Canned(204))
    peer.will("POST /deliveries/msg_a/redeliver", DELIVERY | {"state": "pending"})
    for verb in ("disable", "enable"):
        peer.will(f"POST /keys/key_a/{verb}", KEY_ROW)
    peer.will("DELETE /keys/key_a", Canned(204))
    for command in (
        "tasks stop mindvideo:task_a",
        "keys disable key_a",
        "keys enable key_a",
        "keys rm key_a",
    ):
        assert (await relay(*command.split())).code == 0
    ended = await relay("deliveries", "redeliver", "msg_a")
    assert ended.out == "msg_a  pending\n"


@pytest.mark.parametrize(("state", "code"), [("delivered", 0), ("pending", 1), ("dead", 1)])
async def test_a_test_exits_by_whether_it_arrived(relay: Runner, peer: Peer, state: str, code: int) -> None:
    peer.will("POST /destinations/renders/test", DELIVERY | {"state": state, "attempts": [ATTEMPT]})
    peer.will("GET /destinations/renders", DESTINATION)
    for options in ([], ["--json"]):
        ended = await relay("destinations", "test", "renders", *options)
        assert ended.code == code
        assert state in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("delivery", ["delivered", "dead"])
@pytest.mark.parametrize(
    ("rests", "said", "ends"),
    [
        ({"state": "disabled", "disabled_reason": "gone"}, "renders is disabled: gone", 1),
        ({"state": "paused"}, "renders is paused", 0),
    ],
)
async def test_a_test_says_that_its_destination_is_told_nothing_else(
    relay: Runner, peer: Peer, delivery: str, rests: dict[str, str], said: str, ends: int
) -> None:
    peer.will("POST /destinations/renders/test", DELIVERY | {"state": delivery, "attempts": [ATTEMPT]})
    peer.will("GET /destinations/renders", DESTINATION | rests)
    for options in ([], ["--json"]):
        ended = await relay("destinations", "test", "renders", *options)
        assert ended.code == (ends if delivery == "delivered" else 1)
        assert said in ended.err
        assert "relay destinations resume renders" in ended.err
    assert json.loads(ended.out)["state"] == delivery


async def test_a_new_key_is_alone_on_stdout(relay: Runner, peer: Peer) -> None:
    peer.will("POST /keys", Canned(201, json.dumps(KEY_ROW | {"key": "rk_secret"})))
    ended = await relay("keys", "create", "ops", "--role", "admin")
    assert ended.out == "rk_secret\n"
    assert "not shown again" in ended.err
    assert peer.requests[0].json == {"name": "ops", "role": "admin"}
    ended = await relay("keys", "create", "ops", "--json")
    assert json.loads(ended.out) == {"key": "rk_secret", "id": "key_a"}
    assert ended.err == ""
    assert peer.requests[1].json["role"] == "client"
