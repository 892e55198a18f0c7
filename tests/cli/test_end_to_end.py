"""The commands together, as processes: sandbox, daemon, and a shell that uses them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.senders import signing
from tests.cli.conftest import Process, Runner, Starter
from tests.fakes import receivers

SECRET = signing.format_secret(secrets.token_bytes(32))


@dataclass
class Stage:
    """Everything that runs; ``relay`` asks the daemon with an admin's key."""

    sandbox: str
    daemon: Process
    listener: Process
    relay: Runner
    directory: Path


def configuration(tmp_path: Path, *, upstream: str, receiver: str, port: int = 0) -> str:
    file = tmp_path / "relay.toml"
    file.write_text(
        f"""
        [server]
        port = {port}
        drain_timeout = 2.0
        [upstreams.mindvideo]
        base_url = "{upstream}"
        api_key = "mv_test_sandbox"
        poll_interval_min = 0.1
        poll_interval_max = 0.5
        requests_per_second = 100.0
        [destinations.pipeline]
        url = "{receiver}/hook"
        secret = "{SECRET}"
        schedule = [0.0]
        [destinations.nobody]
        url = "http://127.0.0.1:9/"
        secret = "{SECRET}"
        schedule = [0.0]
        [network]
        allow_private = ["127.0.0.0/8"]
        """
    )
    return file.name


@pytest.fixture
async def stage(start: Starter, relay: Runner, tmp_path: Path) -> AsyncIterator[Stage]:
    sandbox = await start("sandbox", "--port", "0", "--speed", "100")
    listener = await start("listen", "--port", "0", "--secret-file", "-", "--json", stdin=SECRET.encode())
    upstream, receiver = await sandbox.url(), await listener.url()
    config = configuration(tmp_path, upstream=upstream, receiver=receiver)
    daemon = await start("serve", "--config", config)
    url = await daemon.url()
    # The first key is made beside the running daemon, and works at once.
    made = await relay("keys", "create", "ops", "--role", "admin", "--local", "--json", "--config", config)
    relay.set(RELAY_URL=url, RELAY_API_KEY=json.loads(made.out)["key"])
    yield Stage(upstream, daemon, listener, relay, tmp_path)
    code, err = await daemon.stop()
    assert code == 0, err
    assert "Traceback" not in err


async def test_submit_wait_and_look(stage: Stage) -> None:
    relay = stage.relay
    ended = await relay(
        "submit", "minimax-hailuo-2-3", "-i", "prompt=A cat", "-i", "duration:=6", "--notify", "pipeline",
        "--metadata", "order=17", "--wait",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "succeeded" in ended.out
    assert f"{stage.sandbox}/outputs/" in ended.out
    got = json.loads(await stage.listener.line("task.succeeded"))
    assert got["verified"]
    assert got["body"]["data"]["metadata"] == {"order": "17"}
    task_id = got["body"]["data"]["task_id"]

    listed = json.loads((await relay("tasks", "ls", "--json")).out)
    assert [task["task_id"] for task in listed["tasks"]] == [task_id]
    assert task_id in (await relay("tasks", "ls", "--verdict", "ended")).out
    assert "pipeline" in (await relay("tasks", "show", task_id)).out
    assert "task.succeeded" in (await relay("tasks", "events", task_id)).out
    [delivery] = json.loads((await relay("deliveries", "ls", "--task", task_id, "--json")).out)["deliveries"]
    assert delivery["id"] == got["id"]
    again = await relay("deliveries", "redeliver", delivery["id"])
    assert again.code == 0, again.err
    assert json.loads(await stage.listener.line("task.succeeded"))["again"]
    assert (await relay("tasks", "stop", task_id)).code == 0
    assert (await relay("tasks", "stop", task_id)).code == 1


async def test_a_failed_task_exits_1_and_a_watched_one_is_told(stage: Stage) -> None:
    relay = stage.relay
    ended = await relay("submit", "minimax-hailuo-2-3", "-i", "prompt=x [fail]", "--wait", "--json")
    assert ended.code == 1
    body = json.loads(ended.out)
    assert body["status"] == "failed"
    ended = await relay("watch", body["task_id"], "--notify", "pipeline", "--wait")
    assert ended.code == 1
    assert "generation_failed" in ended.out
    await stage.listener.line("task.failed")


async def _made_by_command(stage: Stage) -> None:
    """One that comes, changes, pauses and goes; its URL and secret are in no argument."""
    relay, directory = stage.relay, stage.directory
    url = json.loads((await relay("destinations", "show", "pipeline", "--json")).out)["address"]
    (directory / "made.url").write_text(f"{url}/hook\n")
    (directory / "made.secret").write_text(SECRET)
    refused = await relay("destinations", "add", "made", "--url", f"{url}/tok-secret-tok")
    assert (refused.code, "tok-secret-tok" in refused.err) == (2, False)
    nobody = await relay("destinations", "add", "made")
    assert (nobody.code, "--url @FILE" in nobody.err) == (2, True)
    added = await relay(
        "destinations", "add", "made", "--url", "@made.url", "--rate", "5", "--status", "failed"
    )
    assert added.code == 0, added.err
    assert added.out.splitlines()[1].startswith("whsec_")
    assert (await relay("destinations", "add", "made", "--url", "@made.url")).code == 1
    rotated = await relay(
        "destinations", "rotate-secret", "made", "--secret", "@made.secret", "--overlap", "0", "--json"
    )
    assert json.loads(rotated.out) == {"secret": SECRET, "old_until": None}
    changed = await relay(
        "destinations", "change", "made", "--rate", "default", "--schedule", "0,5", "--json"
    )
    shown = json.loads(changed.out)
    assert (shown["rate"], shown["schedule"], shown["statuses"]) == (None, [0, 5], ["failed"])
    assert (await relay("destinations", "change", "made")).code == 2
    assert "paused" in (await relay("destinations", "pause", "made")).out
    assert "paused" in (await relay("destinations", "ls")).out
    resumed = await relay("destinations", "resume", "made", "--which", "newest")
    assert (resumed.code, "active" in resumed.out) == (0, True)
    assert (await relay("destinations", "test", "made")).code == 0
    await stage.listener.line("relay.test")
    assert (await relay("destinations", "public-key", "made")).code == 1
    assert (await relay("destinations", "pause", "pipeline")).code == 0
    assert (await relay("destinations", "resume", "pipeline")).code == 0
    assert (await relay("destinations", "change", "pipeline", "--rate", "1")).code == 1
    assert (await relay("destinations", "rm", "made")).code == 2
    assert (await relay("destinations", "rm", "made", "--yes")).code == 0
    assert (await relay("destinations", "show", "made")).code == 1


async def test_destinations_and_keys(stage: Stage) -> None:
    relay = stage.relay
    assert (await relay("destinations", "ls")).out.count("http://127.0.0.1") == 2
    assert (await relay("destinations", "test", "pipeline")).code == 0
    await stage.listener.line("relay.test")
    failed = await relay("destinations", "test", "nobody")
    assert failed.code == 1
    assert "dead" in (await relay("deliveries", "ls", "--state", "dead", "--destination", "nobody")).out

    await _made_by_command(stage)

    made = json.loads((await relay("keys", "create", "backend", "--json")).out)
    admin = os.environ["RELAY_API_KEY"]
    assert (await relay("tasks", "ls", RELAY_API_KEY=made["key"])).code == 0
    refused = await relay("keys", "ls")
    assert refused.code == 1
    assert len(refused.err.splitlines()) == 1
    assert (await relay("keys", "disable", made["id"], RELAY_API_KEY=admin)).code == 0
    disabled = await relay("tasks", "ls", RELAY_API_KEY=made["key"])
    assert disabled.code == 1
    assert "RELAY_API_KEY" in disabled.err
    assert (await relay("keys", "enable", made["id"], RELAY_API_KEY=admin)).code == 0
    assert (await relay("keys", "rm", made["id"])).code == 0
    assert (await relay("keys", "rm", made["id"])).code == 1


@pytest.mark.parametrize(
    ("answer", "reason", "state"),
    [
        (receivers.Answer(headers={"webhook-delivery": "disable"}), "disabled_by_receiver", "delivered"),
        (receivers.Answer(status=410), "http_410", "dead"),
    ],
)
async def test_a_test_that_disables_its_destination_says_so_and_exits_1(
    stage: Stage, answer: receivers.Answer, reason: str, state: str
) -> None:
    async with receivers.serve() as receiver:
        receiver.answer = answer
        (stage.directory / "leaving.url").write_text(receiver.url)
        await stage.relay("destinations", "add", "leaving", "--url", "@leaving.url")
        tested = await stage.relay("destinations", "test", "leaving")
    assert tested.code == 1
    assert state in tested.out
    assert f"leaving is disabled: {reason}" in tested.err
    assert "not delivered" not in tested.err


REFUSED: list[tuple[list[str], str]] = [
    (["submit", "no-such-model", "-i", "prompt=x"], ""),
    (["submit", "minimax-hailuo-2-3"], "prompt"),
    (["submit", "minimax-hailuo-2-3", "-i", "prompt=x", "-i", "duration=six"], "/input/duration"),
    (["submit", "minimax-hailuo-2-3", "-i", "prompt=x", "--notify", "pipelin"], "/notify/0"),
    (["tasks", "show", "task_nobody_knows"], ""),
    (["watch", "task_a", "--notify", "rendrs"], "/notify/0"),
    (["deliveries", "show", "msg_x"], ""),
    (["destinations", "test", "pipelin"], "pipeline"),
    (["tasks", "ls", "--cursor", "nonsense"], ""),
]


async def test_what_the_daemon_refuses_is_one_line_and_exit_1(stage: Stage) -> None:
    for command, part in REFUSED:
        ended = await stage.relay(*command)
        assert (ended.code, ended.out) == (1, ""), command
        assert len(ended.err.splitlines()) == 1
        assert ended.err.startswith("error: ")
        assert part in ended.err


async def test_a_second_daemon_on_one_database_and_a_port_in_use(
    stage: Stage, start: Starter, tmp_path: Path
) -> None:
    code, err = await (await start("serve", "--config", "relay.toml")).ended()
    assert code == 1
    assert err.splitlines()[-1].startswith("error: the database ")
    assert "Traceback" not in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = {"RELAY_SERVER__PORT": port, "RELAY_STORE__URL": "sqlite:///other.db"}
        code, err = await (await start("serve", "--config", "relay.toml", **other)).ended()
    assert code == 1
    assert err.splitlines()[-1].lower() == (
        f"error: cannot listen on 127.0.0.1:{port}: address already in use; "
        "choose another server.port or server.host"
    )
    assert "Traceback" not in err


async def test_waiting_can_be_interrupted(stage: Stage, start: Starter) -> None:
    waiting = await start("submit", "minimax-hailuo-2-3", "-i", "prompt=x", "--wait")
    assert waiting.process.stderr is not None
    await waiting.process.stderr.readline()
    code, err = await waiting.stop(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    assert "error" not in err


async def test_waiting_survives_a_restart_of_the_daemon(
    start: Starter, relay: Runner, tmp_path: Path
) -> None:
    upstream = await (await start("sandbox", "--port", "0", "--speed", "25", "--seed", "4")).url()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = configuration(tmp_path, upstream=upstream, receiver=upstream, port=port)
    key = json.loads((await relay("keys", "create", "x", "--local", "--json", "--config", config)).out)["key"]
    first = await start("serve", "--config", config)
    url = await first.url()
    environ = {"RELAY_URL": url, "RELAY_API_KEY": key}
    waiting = await start("submit", "minimax-hailuo-2-3", "-i", "prompt=x", "--wait", **environ)
    assert waiting.process.stderr is not None
    while b"queued" not in (line := await waiting.process.stderr.readline()):
        assert line, "it ended before it waited"
    assert (await first.stop())[0] == 0
    while b"asking again" not in (line := await waiting.process.stderr.readline()):
        assert line, "it did not notice"
    second = await start("serve", "--config", config)
    await second.url()
    code, err = await waiting.ended()
    assert code == 0, err
    assert "relay answers again" in err
    assert any("succeeded" in line for line in waiting.lines)
    assert (await second.stop())[0] == 0


@pytest.mark.parametrize(
    ("environ", "code", "part"),
    [
        ({"RELAY_SERVER__PROT": "1"}, 2, "RELAY_SERVER__PROT: unknown key"),
        ({}, 2, "no upstream is configured"),
        (
            {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY": "x", "RELAY_DESTINATIONS__A__URL": "http://127.0.0.1"},
            2,
            "secret",
        ),
        (
            {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY": "x", "RELAY_DESTINATIONS__A__URL": "slak://x"},
            2,
            "slack://",
        ),
        (
            {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY": "x", "RELAY_STORE__URL": "sqlite:////nowhere/x.db"},
            1,
            "/nowhere",
        ),
        (
            {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY": "x", "RELAY_STORE__URL": "sqlite:////proc/x.db"},
            1,
            "/proc",
        ),
    ],
)
async def test_a_daemon_that_cannot_start_says_why(
    start: Starter, environ: dict[str, str], code: int, part: str
) -> None:
    ended, err = await (await start("serve", **environ)).ended()
    assert ended == code
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert part in errors[0]
    assert "Traceback" not in err


async def test_the_demo(start: Starter) -> None:
    demo = await start("demo", RELAY_SERVER__PORT="nonsense", RELAY_API_KEY="another's")
    code, err = await demo.ended()
    assert (code, err) == (0, "")
    text = "\n".join(demo.lines)
    for shown in (
        "curl -X POST http://127.0.0.1:", '"model": "minimax-hailuo-2-3"', "queued", "succeeded",
        "task.succeeded", "verified", "0.3294", "bytes of video/mp4",
    ):  # fmt: skip
        assert shown in text


async def test_the_demo_can_be_kept(start: Starter, relay: Runner) -> None:
    demo = await start("demo", "--keep")
    line = await demo.line("export RELAY_URL=")
    environ = dict(word.split("=", 1) for word in line.split()[1:])
    ended = await relay("tasks", "ls", **environ)
    assert ended.code == 0, ended.err
    assert "succeeded" in ended.out
    code, err = await demo.stop()
    assert (code, err) == (0, "")


@pytest.mark.parametrize("trouble", ["unreachable", "another key"])
async def test_trouble_with_the_upstream_is_one_line(
    start: Starter, relay: Runner, tmp_path: Path, trouble: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        upstream = f"http://127.0.0.1:{free.getsockname()[1]}"
    if trouble == "another key":
        upstream = await (await start("sandbox", "--port", "0", "--key", "another")).url()
    config = configuration(tmp_path, upstream=upstream, receiver=upstream)
    admin = {"RELAY_SECURITY__ADMIN_KEY": "an-admin-key-of-sixteen"}
    daemon = await start("serve", "--config", config, **admin, RELAY_UPSTREAMS__MINDVIDEO__SUBMIT_TIMEOUT="1")
    environ = {"RELAY_URL": await daemon.url(), "RELAY_API_KEY": "an-admin-key-of-sixteen"}
    ended = await relay("submit", "minimax-hailuo-2-3", "-i", "prompt=x", **environ)
    assert (ended.code, ended.out) == (1, "")
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == [
        "to try again without submitting twice, add",
        "error",
    ]
    assert "mv_test_sandbox" not in ended.err
    assert (await daemon.stop())[0] == 0


async def test_a_wrong_key_and_too_large_an_input(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text(json.dumps({"prompt": "x" * 3_000_000}))
    ended = await stage.relay("submit", "minimax-hailuo-2-3", "--input", "@large.json")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "over the limit" in ended.err
    ended = await stage.relay("tasks", "ls", RELAY_API_KEY="rk_wrong")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert ended.err.endswith("(RELAY_API_KEY)\n")
