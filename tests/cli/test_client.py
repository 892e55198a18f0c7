"""How the commands talk to the daemon, and what they say when that fails."""

from __future__ import annotations

import socket

import pytest

from tests.cli.conftest import KEY, Canned, Peer, Runner, problem, task


async def test_a_daemon_that_is_not_there_is_named_and_exits_3(relay: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    ended = await relay("tasks", "ls", RELAY_URL=url, RELAY_API_KEY=KEY)
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
    assert url in ended.err
    assert "(Connection refused)" in ended.err
    assert "relay serve" in ended.err
    assert KEY not in ended.err


async def test_without_a_key_it_is_said_how_to_get_one(relay: Runner) -> None:
    ended = await relay("tasks", "ls")
    assert ended.code == 2
    assert ended.err.startswith("error: no API key: set RELAY_API_KEY")
    assert "relay keys create NAME --role admin --local" in ended.err


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://user:pw@127.0.0.1", "http://a b", "http://x?y"],
)
async def test_an_unusable_url_is_a_configuration_error(relay: Runner, url: str) -> None:
    ended = await relay("tasks", "ls", RELAY_URL=url, RELAY_API_KEY=KEY)
    assert ended.code == 2
    assert ended.err.startswith("error: RELAY_URL: ")
    assert "pw" not in ended.err


@pytest.mark.parametrize("key", ["rk_ two", "schlüssel", "a\nb"])
async def test_an_unusable_key_is_a_configuration_error_without_the_key(relay: Runner, key: str) -> None:
    ended = await relay("tasks", "ls", RELAY_API_KEY=key)
    assert ended.code == 2
    assert "RELAY_API_KEY" in ended.err
    assert key not in ended.err


async def test_the_key_travels_as_bearer(relay: Runner, peer: Peer) -> None:
    peer.will("GET /tasks", {"tasks": [], "next_cursor": None})
    ended = await relay("tasks", "ls")
    assert ended.code == 0
    assert peer.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (problem(404, "There is no such task."), "error: There is no such task."),
        (problem(401, "No such key."), "error: No such key. (RELAY_API_KEY)"),
        (
            problem(
                422,
                "The request has 2 faults.",
                errors=[
                    {"detail": "must be 6 or 10", "pointer": "/input/duration"},
                    {"detail": "is required", "pointer": "/input/prompt"},
                ],
            ),
            "error: /input/duration: must be 6 or 10; /input/prompt: is required",
        ),
        (
            problem(422, "limit: too large", errors=[{"detail": "too large", "parameter": "limit"}]),
            "error: limit: too large",
        ),
        (
            problem(400, "evil \x1b[31mred\x07\u202e text\nerror: second"),
            "error: evil  [31mred  text error: second",
        ),
    ],
)
async def test_a_problem_is_one_line(relay: Runner, peer: Peer, answer: Canned, line: str) -> None:
    peer.will("GET /tasks/task_a", answer)
    ended = await relay("tasks", "show", "task_a")
    assert (ended.code, ended.out, ended.err) == (1, "", line + "\n")


@pytest.mark.parametrize(
    "answer",
    [
        Canned(502, "<html>Bad gateway</html>", "text/html"),
        Canned(200, "<html>Welcome</html>", "text/html"),
        Canned(200, "[]"),
        Canned(200, "[" * 100_000),
        Canned(500, "{}"),
        # A problem of somebody else's, such as the upstream's own.
        Canned(405, '{"title": "Method Not Allowed", "status": 405, "detail": "This route takes POST."}'),
        Canned(302, "", headers={"Location": "http://192.0.2.1/"}),
        Canned(200, '{"task_id": "x", "status": "queued"}'),
    ],
)
async def test_what_is_no_relay_is_recognised(relay: Runner, peer: Peer, answer: Canned) -> None:
    peer.will("GET /tasks/task_a", answer)
    ended = (
        await relay("watch", "task_a", "--wait")
        if answer.text.startswith('{"t')
        else await relay("tasks", "show", "task_a")
    )
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1


async def test_a_redirect_is_not_followed(relay: Runner, peer: Peer) -> None:
    peer.will("GET /tasks/task_a", Canned(307, "", headers={"Location": f"{peer.url}/api/v1/tasks/task_b"}))
    peer.will("GET /tasks/task_b", task())
    ended = await relay("tasks", "show", "task_a")
    assert ended.code == 1
    assert len(peer.requests) == 1


@pytest.mark.parametrize("bad", ["../keys", "a/b", "", "ä", "..", "a b", "x" * 201, "a\x00b"])
async def test_a_bad_task_id_never_leaves_the_machine(relay: Runner, peer: Peer, bad: str) -> None:
    for command in (["tasks", "show"], ["tasks", "events"], ["tasks", "stop"], ["watch"]):
        ended = await relay(*command, bad)
        assert ended.code == 2
        assert ended.err.startswith("error: ")
    assert peer.requests == []


async def test_other_names_reach_the_path_quoted(relay: Runner, peer: Peer) -> None:
    ended = await relay("destinations", "show", "../keys?x=1")
    assert ended.code == 1
    assert peer.requests[0].path == "/api/v1/destinations/..%2Fkeys%3Fx%3D1"


async def test_an_argument_that_is_no_text_is_wrong_usage(relay: Runner, peer: Peer) -> None:
    ended = await relay("deliveries", "ls", "--destination", "\udc80")
    assert ended.code == 2
    assert peer.requests == []
