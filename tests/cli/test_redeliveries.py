"""Telling many again from a shell: preview, consent, progress, and going away meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from relay import cli
from tests.cli.conftest import KEY, Canned, Peer, Runner, Starter, problem
from tests.cli.test_lists import DELIVERY


def redelivery(state: str = "preview", done: int = 0, skipped: int = 0, **members: Any) -> dict[str, Any]:
    """A redelivery as the API shows it."""
    return {
        "id": "rdl_a",
        "state": state,
        "filter": {"destination": "renders", "state": "dead", "reason": None},
        "rate": 10.0,
        "count": 20,
        "done": done,
        "skipped": skipped,
        "eta_seconds": 2.0,
        "position": None,
        "created_by": "key_a",
        "created_at": "2026-11-23T01:02:03.456Z",
        "changed_at": "2026-11-23T01:02:03.456Z",
        "finished_at": None,
        **members,
    }


PREVIEW = redelivery(sample=[DELIVERY])


def asked(peer: Peer) -> list[str]:
    return [f"{one.method} {one.path.removeprefix('/api/v1')}" for one in peer.requests]


async def test_all_is_previewed_run_and_watched_to_its_end(relay: Runner, peer: Peer) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will(
        "GET /redeliveries/rdl_a",
        redelivery("running", 1),
        redelivery("running", 1),
        redelivery("running", 11, 1),
        redelivery("done", 19, 1),
    )
    ended = await relay(
        "deliveries", "redeliver", "--all", "--yes", "--destination", "renders", "--state", "held",
        "--reason", "x", "--type", "task.failed", "--task", "t", "--since", "2026-11-23T01:02:03Z",
        "--until", "2026-11-24T00:00:00Z", "--rate", "50",
    )  # fmt: skip
    assert ended.code == 0
    assert peer.requests[0].json == {
        "destination": "renders",
        "state": "held",
        "reason": "x",
        "type": "task.failed",
        "task": "t",
        "created_after": "2026-11-23T01:02:03Z",
        "created_before": "2026-11-24T00:00:00Z",
        "rate": 50.0,
    }
    assert asked(peer)[:3] == [
        "POST /redeliveries", "POST /redeliveries/rdl_a/run", "GET /redeliveries/rdl_a"
    ]  # fmt: skip
    assert "msg_a" in ended.out
    assert ended.out.splitlines()[-1] == "rdl_a  done: 19 of 20 due again, 1 skipped"
    assert ended.err.splitlines() == [
        "20 deliveries, of which 19 are not shown",
        "running: 1 of 20 due again",
        "running: 11 of 20 due again, 1 skipped",
        "done: 19 of 20 due again, 1 skipped",
    ]
    assert "\x1b" not in ended.out + ended.err


async def test_all_without_narrowing_means_all(relay: Runner, peer: Peer) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will("GET /redeliveries/rdl_a", redelivery("done", 20))
    assert (await relay("deliveries", "redeliver", "--all", "--yes")).code == 0
    assert (await relay("redeliveries", "create", "--all", "--state", "held")).code == 0
    assert [one.json for one in peer.requests if one.path.endswith("/redeliveries")] == [
        {"all": True},
        {"state": "held", "all": True},
    ]


async def test_nothing_to_redeliver_is_said_and_nothing_run(relay: Runner, peer: Peer) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW | {"count": 0, "sample": []})))
    peer.will("POST /redeliveries/rdl_a/cancel", redelivery("cancelled"))
    ended = await relay("deliveries", "redeliver", "--all", "--yes")
    assert (ended.code, ended.out, ended.err) == (0, "", "0 deliveries\n")
    assert asked(peer) == ["POST /redeliveries", "POST /redeliveries/rdl_a/cancel"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("deliveries redeliver --all", "give --yes"),
        ("deliveries redeliver", "give deliveries, or --all"),
        ("deliveries redeliver msg_a --all", "not both"),
        ("deliveries redeliver msg_a --destination renders", "belong to --all"),
        ("deliveries redeliver msg_a --yes", "belong to --all"),
        ("deliveries redeliver --all --yes --rate 0", "from 0.1 to 1000"),
        ("deliveries redeliver --all --yes --state pending", "dead"),
        ("redeliveries create", "give --all, or at least one of --destination, --task"),
        ("redeliveries create --state held", "at least one of"),
    ],
)
async def test_wrong_usage_asks_nobody(relay: Runner, peer: Peer, command: str, says: str) -> None:
    ended = await relay(*command.split())
    assert ended.code == 2
    assert says in ended.err
    assert peer.requests == []


async def test_what_the_api_refuses_is_one_line(relay: Runner, peer: Peer) -> None:
    fault = {"detail": "is no destination that there is; did you mean 'renders'?", "pointer": "/destination"}
    peer.will("POST /redeliveries", problem(422, "The request is wrong.", errors=[fault]))
    ended = await relay("redeliveries", "create", "--destination", "render")
    assert (ended.code, ended.err) == (1, f"error: /destination: {fault['detail']}\n")


@pytest.mark.parametrize(
    ("state", "says"), [("paused", "relay redeliveries run rdl_a"), ("cancelled", "cancelled")]
)
async def test_one_that_somebody_stopped_exits_1(relay: Runner, peer: Peer, state: str, says: str) -> None:
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will("GET /redeliveries/rdl_a", redelivery("running", 2), redelivery(state, 3))
    ended = await relay("redeliveries", "run", "rdl_a", "--rate", "2", "--wait")
    assert ended.code == 1
    assert says in ended.err
    assert peer.requests[0].json == {"rate": 2.0}


async def test_a_daemon_that_restarts_is_waited_for(relay: Runner, peer: Peer) -> None:
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will("GET /redeliveries/rdl_a", problem(503, "Not now."), redelivery("done", 20))
    ended = await relay("redeliveries", "run", "rdl_a", "--wait")
    assert ended.code == 0
    assert "asking again" in ended.err
    assert "relay answers again" in ended.err


async def test_a_preview_is_made_and_says_how_to_run_it(relay: Runner, peer: Peer) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    ended = await relay("redeliveries", "create", "--destination", "renders")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "rdl_a"
    assert "relay redeliveries run rdl_a" in ended.err
    assert asked(peer) == ["POST /redeliveries"]
    as_json = await relay("redeliveries", "create", "--destination", "renders", "--json")
    assert (json.loads(as_json.out), as_json.err) == (PREVIEW, "")


async def test_they_are_listed_shown_run_paused_and_cancelled(relay: Runner, peer: Peer) -> None:
    listed = {"redeliveries": [redelivery("running", 5)], "next_cursor": None}
    peer.will("GET /redeliveries", listed)
    peer.will("GET /redeliveries/rdl_a", redelivery("running", 5, 1))
    for action, state in (("run", "running"), ("pause", "paused"), ("cancel", "cancelled")):
        peer.will(f"POST /redeliveries/rdl_a/{action}", redelivery(state, 5))
    ended = await relay("redeliveries", "ls", "--state", "running", "--limit", "5")
    assert "destination=renders state=dead" in ended.out
    assert peer.requests[0].query == {"state": "running", "limit": "5"}
    assert json.loads((await relay("redeliveries", "ls", "--json")).out) == listed
    shown = (await relay("redeliveries", "show", "rdl_a")).out
    assert "due again   5" in shown
    assert "left        2 s" in shown
    assert json.loads((await relay("redeliveries", "show", "rdl_a", "--json")).out)["done"] == 5
    assert (await relay("redeliveries", "run", "rdl_a")).out == "rdl_a  running\n"
    assert (await relay("redeliveries", "pause", "rdl_a")).out == "rdl_a  paused: 5 of 20 due again\n"
    assert (await relay("redeliveries", "cancel", "rdl_a")).out == "rdl_a  cancelled: 5 of 20 due again\n"


async def test_one_that_is_held_says_why(relay: Runner, peer: Peer) -> None:
    peer.will("POST /deliveries/msg_a/redeliver", DELIVERY | {"state": "held", "reason": "paused"})
    assert (await relay("deliveries", "redeliver", "msg_a")).out == "msg_a  held  paused\n"


async def test_ctrl_c_leaves_it_running_and_says_so(peer: Peer, start: Starter) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will("GET /redeliveries/rdl_a", redelivery("running", 5))
    process = await start("deliveries", "redeliver", "--all", "--yes")
    async with asyncio.timeout(30):
        while len(peer.requests) < 4:
            await asyncio.sleep(0.01)
    code, err = await process.stop(signal.SIGINT)
    assert code == 130
    assert "it goes on without you" in err
    assert "relay redeliveries show rdl_a" in err
    assert "relay redeliveries pause rdl_a" in err
    assert "Traceback" not in err
    assert not any(one.path.endswith(("/pause", "/cancel")) for one in peer.requests)


async def on_a_terminal(directory: Path, url: str, *, answer: bytes) -> tuple[int, str]:
    """Run ``deliveries redeliver --all`` on a terminal, and answer what it asks; its code and screen."""
    ours, theirs = pty.openpty()
    environ = {"RELAY_URL": url, "RELAY_API_KEY": KEY, "TERM": "xterm", "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "deliveries", "redeliver", "--all",
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent.parent), **environ},
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    read = await asyncio.to_thread(os.read, ours, 4096)
                except OSError:  # the terminal is gone with the process
                    break
                screen += read
                if answer and b"Tell them again?" in screen:
                    os.write(ours, answer)
                    answer = b""
            return await process.wait(), screen.decode()
    finally:
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_on_a_terminal_it_asks_and_shows_a_bar(peer: Peer, tmp_path: Path) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    peer.will("POST /redeliveries/rdl_a/run", redelivery("running"))
    peer.will("GET /redeliveries/rdl_a", redelivery("running", 5), redelivery("done", 20))
    code, screen = await on_a_terminal(tmp_path, peer.url, answer=b"y\n")
    assert code == 0, screen
    assert "msg_a" in screen
    assert "5/20" in screen
    assert "20/20" in screen
    assert "done: 20 of 20 due again" in screen


async def test_who_does_not_agree_sends_nothing(peer: Peer, tmp_path: Path) -> None:
    peer.will("POST /redeliveries", Canned(201, json.dumps(PREVIEW)))
    peer.will("POST /redeliveries/rdl_a/cancel", redelivery("cancelled"))
    code, screen = await on_a_terminal(tmp_path, peer.url, answer=b"n\n")
    assert code == 1
    assert "nothing was sent" in screen
    assert asked(peer) == ["POST /redeliveries", "POST /redeliveries/rdl_a/cancel"]
