"""``sandbox`` and ``listen``: commands that serve until they are told to stop."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import standardwebhooks

from relay.senders import signing
from tests.cli.conftest import Process, Starter

SECRET = signing.format_secret(secrets.token_bytes(32))
PAYLOAD = {
    "type": "task.succeeded",
    "timestamp": "2026-11-23T01:02:03.456Z",
    "data": {
        "task_id": "task_a",
        "model": "m",
        "status": "succeeded",
        "cost_actual": 0.3294,
        "output": {"videos": [{"url": "https://cdn.example.com/0.mp4"}]},
        "error": None,
        "metadata": {"order": "17\x1b[31m"},
    },
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_sandbox_serves_until_it_is_stopped(
    start: Starter, session: aiohttp.ClientSession, number: int
) -> None:
    sandbox = await start(
        "sandbox", "--port", "0", "--key", "k1", "--key", "k2", "--speed", "100", "--seed", "1"
    )
    line = await sandbox.line("listening on")
    assert line.startswith("relay sandbox listening on http://127.0.0.1:")
    url = line.split()[-1]
    for key, status in (("k1", 201), ("k2", 201), ("mv_test_sandbox", 401)):
        async with session.post(
            f"{url}/api/v1/tasks",
            json={"model": "minimax-hailuo-2-3", "input": {"prompt": "x"}},
            headers={"Authorization": f"Bearer {key}"},
        ) as reply:
            assert reply.status == status
    assert await sandbox.stop(number) == (0, "")


async def test_the_sandboxes_default_key(start: Starter, session: aiohttp.ClientSession) -> None:
    url = await (await start("sandbox", "--port", "0")).url()
    async with session.get(
        f"{url}/api/v1/tasks/x", headers={"Authorization": "Bearer mv_test_sandbox"}
    ) as reply:
        assert reply.status == 404


async def test_the_sandbox_lets_go_wrong_what_it_is_asked_to(
    start: Starter, session: aiohttp.ClientSession
) -> None:
    disabled = ("--disabled-key", "off1", "--disabled-key", "off2")
    faults = ("--fault", "429", "--fault", "fail", "--fault", "cancel:0")
    url = await (await start("sandbox", "--port", "0", "--speed", "100000", *disabled, *faults)).url()

    async def ask(method: str, path: str = "", key: str = "mv_test_sandbox") -> tuple[int, dict[str, str]]:
        body = {"model": "minimax-hailuo-2-3", "input": {"prompt": "x"}} if method == "POST" else None
        headers = {"Authorization": f"Bearer {key}"}
        async with session.request(method, f"{url}/api/v1/tasks{path}", json=body, headers=headers) as reply:
            return reply.status, await reply.json(content_type=None)

    assert [(await ask("POST", key=key))[0] for key in ("off1", "off2", "other")] == [403, 403, 401]
    assert (await ask("POST"))[0] == 429
    status, created = await ask("POST")
    assert status == 201
    assert (await ask("GET", f"/{created['task_id']}"))[0] == 429
    async with asyncio.timeout(30):
        while (told := (await ask("GET", f"/{created['task_id']}"))[1])["status"] != "failed":
            pass
    assert told["output"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fault", "drop"), "--fault: no fault is called 'drop'; "),
        (("--fault", "429:2"), "--fault 429: give a share from 0 to 1"),
        (("--disabled-key", "a b"), "--disabled-key: give 1 to 200 visible ASCII characters"),
    ],
)
async def test_an_unusable_option_of_the_sandbox_is_one_line_and_exit_2(
    start: Starter, options: tuple[str, ...], said: str
) -> None:
    code, err = await (await start("sandbox", "--port", "0", *options)).ended()
    assert code == 2
    assert err.startswith(f"error: {said}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["sandbox", "listen"])
async def test_a_port_in_use_is_one_line_and_exit_1(start: Starter, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = await (await start(command, "--port", str(port))).ended()
    assert code == 1
    assert err.startswith(f"error: 127.0.0.1 port {port} is in use")
    assert len(err.splitlines()) == 1


async def test_an_address_that_is_none_is_one_line_and_exit_1(start: Starter) -> None:
    code, err = await (await start("sandbox", "--host", "192.0.2.1", "--port", "0")).ended()
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "192.0.2.1" in err


async def listening(start: Starter, *args: str) -> tuple[Process, str]:
    listener = await start("listen", "--port", "0", "--secret-file", "-", *args, stdin=f"{SECRET}\n".encode())
    line = await listener.line("listening on")
    assert line.startswith("relay listen listening on http://127.0.0.1:")
    return listener, line.split()[-1]


async def send(
    session: aiohttp.ClientSession, url: str, *, secret: str = SECRET, webhook_id: str = "msg_a"
) -> int:
    """Deliver ``PAYLOAD`` the way an independent implementation signs it."""
    now = datetime.datetime.now(tz=datetime.UTC)
    body = json.dumps(PAYLOAD)
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(webhook_id, now, body),
    }
    async with session.post(f"{url}/any/path", data=body, headers=headers) as reply:
        return reply.status


async def test_what_is_verified_is_shown(start: Starter, session: aiohttp.ClientSession) -> None:
    listener, url = await listening(start)
    assert await send(session, url) == 204
    assert await send(session, url) == 204
    assert await send(session, url, webhook_id="msg_b") == 204
    assert await listener.stop() == (0, "")
    text = "\n".join(listener.lines)
    assert text.count("task.succeeded  verified") == 3
    assert text.count("verified (again)") == 1
    for shown in ("task_a", "0.3294", "https://cdn.example.com/0.mp4", "msg_b", 'metadata  {"order"'):
        assert shown in text
    assert "\x1b" not in text
    assert SECRET not in text


async def test_what_is_not_verified_says_why_and_is_refused(
    start: Starter, session: aiohttp.ClientSession
) -> None:
    listener, url = await listening(start)
    other = signing.format_secret(secrets.token_bytes(32))
    assert await send(session, url, secret=other) == 401
    async with session.post(url, data=b"\xff not json") as reply:
        assert reply.status == 401
    async with session.get(url) as reply:
        assert reply.status == 405
    async with session.post(url, data=io.BytesIO(b"x" * 2_000_000)) as reply:
        assert reply.status == 413
    assert await send(session, url) == 204  # an id that was not verified does not count as seen
    assert await listener.stop() == (0, "")
    text = "\n".join(listener.lines)
    assert "NOT VERIFIED: no signature matches" in text
    assert "NOT VERIFIED: webhook-id" in text
    assert "(again)" not in text


async def test_for_machines_it_is_an_object_a_line(start: Starter, session: aiohttp.ClientSession) -> None:
    listener, url = await listening(start, "--json")
    await send(session, url)
    await send(session, url, secret=signing.format_secret(secrets.token_bytes(32)))
    await listener.stop()
    good, bad = (json.loads(line) for line in listener.lines if line.startswith("{"))
    assert good == {"id": "msg_a", "verified": True, "problem": None, "again": False, "body": PAYLOAD}
    assert (bad["verified"], bad["problem"]) == (False, "no signature matches")


async def test_without_a_secret_one_is_made_that_works(
    start: Starter, session: aiohttp.ClientSession
) -> None:
    listener = await start("listen", "--port", "0")
    url = await listener.url()
    assert listener.process.stderr is not None
    advice = await listener.process.stderr.readline() + await listener.process.stderr.readline()
    secret = advice.decode().split('"')[1]
    assert await send(session, url, secret=secret) == 204
    assert (await listener.stop())[0] == 0


@pytest.mark.parametrize("content", [b"", b"no secret", b"whsec_", b"whsec_c2hvcnQ=", b"\xff"])
async def test_an_unusable_secret_is_a_configuration_error(
    start: Starter, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "secret").write_bytes(content)
    code, err = await (await start("listen", "--port", "0", "--secret-file", "secret")).ended()
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "c2hvcnQ" not in err


async def test_a_missing_secrets_file_is_a_configuration_error(start: Starter) -> None:
    code, err = await (await start("listen", "--secret-file", "missing")).ended()
    assert (code, err) == (2, "error: --secret-file: No such file or directory\n")
