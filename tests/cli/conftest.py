"""Running commands, and a peer for them that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay import cli

KEY = "rk_aaaaaaaaaaaaaaaaaaaaaaaa_" + "S" * 43
PATIENCE = 30.0


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Runner:
    """Runs commands inside this process, as a user's shell would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, **environ: str) -> None:
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)

    async def __call__(self, *args: str, **environ: str) -> Ended:
        self.set(**environ)
        self._capsys.readouterr()
        code = await asyncio.to_thread(cli.run, list(args))
        out, err = self._capsys.readouterr()
        return Ended(code, out, err)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test, and nothing is written beside the tests."""
    for name in list(os.environ):
        if name.startswith("RELAY_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(monkeypatch, capsys)


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Canned:
    """An answer."""

    status: int = 200
    text: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Peer:
    """Answers in relay's place: per "METHOD /path" what is answered, in turn; the last one stays."""

    url: str
    answers: dict[str, list[Canned]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def will(self, request: str, *answers: Canned | dict[str, Any]) -> None:
        """Answer ``request`` so."""
        self.answers[request] = [
            answer if isinstance(answer, Canned) else Canned(text=json.dumps(answer)) for answer in answers
        ]

    async def handle(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        body = await request.read()
        self.requests.append(Request(request.method, path, dict(request.query), request.headers, body))
        waiting = self.answers.get(f"{request.method} {path.removeprefix('/api/v1')}")
        answer = problem(404, "There is no such thing.")
        if waiting:
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return web.Response(
            status=answer.status, text=answer.text, content_type=answer.content_type, headers=answer.headers
        )


def problem(status: int, detail: str, **members: Any) -> Canned:
    """A problem+json answer as relay gives them."""
    body = {
        "type": "about:blank",
        "title": "Problem",
        "status": status,
        "detail": detail,
        "instance": "urn:relay:request:req_a",
        **members,
    }
    return Canned(status, json.dumps(body), "application/problem+json")


def task(
    status: str = "succeeded", verdict: str = "ended", task_id: str = "task_a", **members: Any
) -> dict[str, Any]:
    """A task body as relay gives them."""
    done = status == "succeeded"
    return {
        "request_id": "req_a",
        "task_id": task_id,
        "status": status,
        "cost_estimate": 0.3294,
        "cost_actual": 0.3294 if done else None,
        "output": {"videos": [{"url": "https://cdn.example.com/0.mp4"}]} if done else None,
        "relay": {
            "id": "tsk_a",
            "upstream": "mindvideo",
            "model": "minimax-hailuo-2-3",
            "verdict": verdict,
            "registrations": [{"key": "key_a", "notify": ["renders"], "statuses": None, "metadata": None}],
            "created_at": "2026-11-23T01:02:03.456Z",
            "finished_at": None,
            "last_polled_at": None,
            "next_poll_at": None,
            "events_seen": 3,
        },
        **members,
    }


@pytest.fixture
async def peer(relay: Runner) -> AsyncIterator[Peer]:
    """A peer on loopback, and an environment that points to it."""
    made = Peer(url="")
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    relay.set(RELAY_URL=made.url, RELAY_API_KEY=KEY)
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass
class Process:
    """A command as a process of its own."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line(self, part: str) -> str:
        """The next line of stdout that holds ``part``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while raw := await self.process.stdout.readline():
                self.lines.append(raw.decode())
                if part in self.lines[-1]:
                    return self.lines[-1].strip()
        raise AssertionError(f"{part!r} never came; {self.lines}")

    async def url(self) -> str:
        """The address it says that it listens on."""
        return (await self.line("listening on")).rpartition(" ")[2]

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; its exit code and stderr."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
        self.lines += out.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode, err.decode()


Starter = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts ``relay ARGS`` in ``tmp_path``; what still runs at the end is killed."""
    # Whoever runs the tests in the background of a shell ignores SIGINT, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started: list[asyncio.subprocess.Process] = []

    async def go(*args: str, stdin: bytes | None = None, **environ: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay",
            *args,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent.parent), **environ},
        )
        started.append(process)
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
        return Process(process)

    yield go
    for process in started:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
