"""Secrets are planted in every kind of destination, key and upstream, and looked for wherever relay writes.

Searched are the log at debug level, every answer of the API, the metrics, what the commands print,
the database with its journal, and what the daemon says when it cannot start or is made to crash.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import harness
from tests.fakes import receivers, sandbox

HEX = "5ec2e7"
"""Begins every planted text, so that none can be there by chance."""


def planted(name: str) -> str:
    """A secret that is recognised wherever it turns up."""
    return f"{HEX}{name}{'q' * 12}"


def signing(name: str) -> str:
    return "whsec_" + base64.b64encode(planted(name).ljust(32, "z").encode()).decode()


SIGNING_KEY = "whsk_" + base64.b64encode((HEX + "signing-key").ljust(32, "k").encode()).decode()


def needles() -> list[str]:
    """What must not be found: the planted beginning, and each signing secret's own text."""
    return [HEX, *(signing(name)[6:40] for name in ("hook", "made", "inline", "new")), SIGNING_KEY[5:40]]


@dataclass
class Scene:
    """A daemon as a process, a client of its, and all that was read from them."""

    process: harness.Process
    session: aiohttp.ClientSession
    hook: receivers.Receiver
    upstream: sandbox.RunningSandbox
    directory: Path
    seen: dict[str, str]

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the answer is kept for the search."""
        url = f"{self.process.url}{path if path.startswith('/openapi') else '/api/v1' + path}"
        async with self.session.request(method, url, json=body) as reply:
            text = await reply.text()
            self.seen[f"{method} {path} {len(self.seen)}"] = f"{dict(reply.headers)} {text}"
            with contextlib.suppress(ValueError):
                return json.loads(text)
            return text

    async def relay(self, *args: str, stdin: bytes = b"") -> int:
        """A command of relay's; what it prints is kept for the search."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", *args),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.directory,
            env=harness.environment(RELAY_URL=self.process.url, RELAY_API_KEY=harness.ADMIN_KEY),
        )
        out, _ = await asyncio.wait_for(process.communicate(stdin), timeout=60)
        self.seen[f"relay {' '.join(args)} {len(self.seen)}"] = out.decode()
        assert process.returncode is not None
        return process.returncode

    async def until(self, count: int) -> None:
        """Return once so many deliveries had an attempt."""
        async with asyncio.timeout(60):
            while True:
                found = (await self.call("GET", "/deliveries"))["deliveries"]
                if sum(one["attempts_made"] > 0 for one in found) >= count:
                    return
                await asyncio.sleep(0.2)


def configuration(
    directory: Path, upstream: sandbox.RunningSandbox, hook: receivers.Receiver
) -> dict[str, Any]:
    retry_soon = {"schedule": [0, 0.2, 600]}
    host = f"127.0.0.1:{hook.port}"
    return harness.overrides(
        directory,
        upstream,
        {
            "hook": {
                "url": f"http://{planted('user')}:{planted('password')}@{host}/{planted('path')}?t={planted('query')}",
                "secret": signing("hook"),
                "signing_key": SIGNING_KEY,
                "headers": {"X-Token": planted("header")},
                **retry_soon,
            },
            "unreachable": {
                "url": f"http://127.0.0.1:9/{planted('unreachable')}",
                "secret": signing("hook"),
                **retry_soon,
            },
            "refused": {
                "url": f"http://10.1.2.3/{planted('refused')}",
                "secret": signing("hook"),
                **retry_soon,
            },
            "ntfy": {
                "url": f"ntfy://{planted('ntfyuser')}:{planted('ntfypw')}@{host}/{planted('topic')}",
                **retry_soon,
            },
            "json": {
                "url": f"json://{host}/{planted('jsonpath')}/?+X-Token={planted('jsonheader')}",
                **retry_soon,
            },
            "mail": {
                "url": f"mailto://{planted('mailuser')}:{planted('mailpw')}@127.0.0.1:9/?from=a@example.com&to=b@example.com&mode=insecure",
                **retry_soon,
            },
            "slack": {
                "url": f"slack://T1JJ3T3L2/A1BRTD4JD/{HEX}kdnlazkcOXrIdevi7F/#{HEX}channel",
                **retry_soon,
            },
        },
        security={
            "admin_key": harness.ADMIN_KEY,
            "allow_inline_destinations": True,
            "secret_key": [planted("secret-key")],
        },
        logs={"level": "debug", "format": "json"},
        operator={"notify": ["hook"]},
    )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=200, key=planted("upstream-key")) as upstream,
    ):
        process = harness.Process(tmp_path, configuration(tmp_path, upstream, hook))
        await process.start()
        try:
            async with harness.caller(process.url) as session:
                yield Scene(process, session, hook, upstream, tmp_path, {})
        finally:
            await process.stop()


SAID_BACK = receivers.Answer(
    status=500,
    body=f"no {planted('path')} {planted('query')} {planted('header')} {planted('madepath')}".encode(),
)


async def _use_everything(scene: Scene) -> None:
    """Make, tell, fail, change, rotate, read: every way that a secret takes through relay."""
    url = f"http://127.0.0.1:{scene.hook.port}"
    scene.hook.answer = SAID_BACK  # a peer that repeats what it was sent
    made = {
        "name": "made",
        "url": f"{url}/{planted('madepath')}",
        "secret": signing("made"),
        "schedule": [0, 600],
    }
    await scene.call("POST", "/destinations", made | {"headers": {"X-Token": planted("madeheader")}})
    chat = {
        "name": "chat",
        "url": f"ntfy://{planted('u')}:{planted('p')}@127.0.0.1:{scene.hook.port}/{planted('t')}",
    }
    await scene.call("POST", "/destinations", chat)
    for bad in (
        f"slak://{planted('a')}/b",
        f"json://h/?template={planted('b')}",
        f"http://{planted('c')} /x",
        planted("d"),
    ):
        await scene.call("POST", "/destinations", {"name": "bad", "url": bad})
        await scene.call("PUT", "/tasks/bad", {"notify": [{"url": bad}]})
    inline = {"url": f"{url}/{planted('inlinepath')}", "secret": signing("inline")}
    names = ["hook", "unreachable", "refused", "ntfy", "json", "mail", "made", "chat"]
    body = {**sandbox.SEED_REQUEST, "notify": [*names, inline, f"{url}/{planted('bare')}"]}
    created = await scene.call("POST", "/tasks", body)
    await scene.until(len(names) + 2)
    await scene.call("GET", f"/tasks/{created['task_id']}")
    await scene.call("GET", f"/tasks/{created['task_id']}/events")
    for delivery in (await scene.call("GET", "/deliveries"))["deliveries"]:
        await scene.call("GET", f"/deliveries/{delivery['id']}")
    for name in ("hook", "ntfy", "made", "unreachable", "mail"):
        await scene.call("POST", f"/destinations/{name}/test")
    scene.hook.answer = receivers.Answer(status=410)
    await scene.call("POST", "/destinations/made/test")
    rotation = {"secret": signing("new"), "overlap": 60}
    await scene.call("POST", "/destinations/made/rotate-secret", {"secret": f"{planted('no-secret')}"})
    await scene.call("PATCH", "/destinations/made", {"url": f"{url}/{planted('moved')}", "rate": 5})
    scene.hook.answer = receivers.Answer()
    rotated = await scene.call("POST", "/destinations/made/rotate-secret", rotation)
    # A secret is answered to whoever rotates, and nowhere else.
    assert rotated["secret"] == signing("new")
    scene.seen = {name: text for name, text in scene.seen.items() if signing("new") not in text}
    await scene.call("POST", "/destinations/made/pause")
    await scene.call("POST", "/destinations/made/resume", {})
    for path in (
        "/destinations",
        "/destinations/hook",
        "/destinations/made",
        "/tasks",
        "/keys",
        "/openapi.json",
    ):
        await scene.call("GET", path)
    for path in ("/metrics", "/readyz"):
        async with scene.session.get(f"{scene.process.url}{path}") as reply:
            scene.seen[path] = await reply.text()


async def _use_the_commands(scene: Scene) -> None:
    config = str(scene.process.config)
    for args in (
        ("destinations", "ls"), ("destinations", "ls", "--json"), ("destinations", "show", "hook"),
        ("destinations", "show", "made", "--json"), ("destinations", "test", "refused"),
        ("deliveries", "ls"), ("deliveries", "ls", "--json"), ("tasks", "ls", "--json"), ("keys", "ls"),
        ("config", "show", "--config", config), ("config", "check", "--config", config),
        ("destinations", "add", "other", "--url", "-"),
    ):  # fmt: skip
        await scene.relay(*args, stdin=f"slak://{planted('typed')}/b".encode())
    listed = await scene.call("GET", "/deliveries")
    for delivery in listed["deliveries"][:5]:
        await scene.relay("deliveries", "show", delivery["id"])


async def _crash(scene: Scene) -> None:
    """A second daemon that cannot start, one with the wrong key, and a death by SIGABRT."""
    config = scene.process.config
    await scene.relay("serve", "--config", str(config))  # the database is in use
    scene.process.signal(signal.SIGABRT)
    await scene.process.wait()
    wrong = scene.directory / "wrong.toml"
    wrong.write_text(config.read_text().replace(planted("secret-key"), planted("other-key")))
    assert await scene.relay("serve", "--config", str(wrong)) == 2
    assert "security.secret_key" in list(scene.seen.values())[-1]


@pytest.mark.timeout(240)
async def test_no_secret_is_found_anywhere(scene: Scene, signing_secrets: set[str]) -> None:
    signing_secrets.update(signing(name) for name in ("hook", "made", "inline", "new"))
    await _use_everything(scene)
    await _use_the_commands(scene)
    await _crash(scene)
    places = dict(scene.seen)
    places["log"] = scene.process.log.read_text()
    assert re.search(r'"level": ?"debug"', places["log"])
    for file in scene.directory.glob("relay.db*"):
        places[file.name] = file.read_bytes().decode("latin-1")
    assert {"relay.db", "log", "/metrics"} <= places.keys()
    found = {
        f"{needle!r} in {place}: …{text[max(0, text.index(needle) - 60) : text.index(needle) + 60]!r}…"
        for place, text in places.items()
        for needle in needles()
        if needle in text
    }
    assert not found, "\n".join(sorted(found))
    # The search would find them: they did go out to the receiver.
    sent = " ".join(f"{one.path} {one.headers} {one.body!r}" for one in scene.hook.requests)
    for name in ("path", "query", "header", "topic", "jsonpath", "madepath", "inlinepath", "bare"):
        assert planted(name) in sent, name
