"""A whole daemon for tests: in this process (``running``) or as its own (``Process``).

    async with receivers.serve() as hook, sandbox.running_sandbox(speed=100) as upstream:
        async with harness.running(tmp_path, upstream, {"pipeline": webhook(hook)}) as relay:
            task = await relay.submit(notify=["pipeline"])
            await hook.wait_for(1)

Everything listens on and dials 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from relay import daemon, settings
from relay.engine import clock, supervisor
from relay.senders import dialling
from tests.fakes import receivers
from tests.fakes import sandbox as sandboxes

ADMIN_KEY = "admin-key-for-tests-0123456789"
SECRET = "whsec_" + base64.b64encode(b"a secret of exactly thirty-two b").decode()
LOOPBACK = ["127.0.0.0/8"]


class Peer(Protocol):
    """Anything that is asked as an upstream."""

    url: str


def webhook(receiver: receivers.Receiver, **more: Any) -> dict[str, Any]:
    """A destination that posts to ``receiver``."""
    return {"url": f"{receiver.url}/hook", "secret": SECRET, **more}


def overrides(
    directory: Path,
    upstream: Peer,
    destinations: Mapping[str, Mapping[str, Any]],
    *,
    upstream_options: Mapping[str, Any] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """Settings of a daemon whose files live in ``directory``. ``sections`` replace whole tables."""
    return {
        "server": {"port": 0, "drain_timeout": 5.0, "requests_per_second_per_key": 10_000},
        "store": {"url": f"sqlite:///{directory}/relay.db"},
        "upstreams": {
            "mindvideo": {
                "base_url": upstream.url,
                "api_key": getattr(upstream, "key", "mv_test_key"),
                "poll_interval_min": 0.05,
                "requests_per_second": 2000,
                **(upstream_options or {}),
            }
        },
        "destinations": {name: dict(one) for name, one in destinations.items()},
        "network": {"allow_private": LOOPBACK},
        "security": {"admin_key": ADMIN_KEY},
        **sections,
    }


@dataclass
class Client:
    """A caller of the daemon at ``url``."""

    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and decoded body (``None`` where there is none) of ``/api/v1`` + ``path``."""
        async with self.session.request(method, f"{self.url}/api/v1{path}", **options) as reply:
            text = await reply.text()
            return reply.status, await reply.json(content_type=None) if text else None

    async def submit(self, *, key: str | None = None, prompt: str = sandboxes.PROMPT, **members: Any) -> str:
        """Submit the seed's model; the task id."""
        body = {"model": sandboxes.MODEL, "input": {"prompt": prompt}, **members}
        status, answer = await self.call(
            "POST", "/tasks", json=body, headers={"Idempotency-Key": key} if key else {}
        )
        assert status in (200, 201), answer
        return str(answer["task_id"])

    async def watch(self, task: str, **members: Any) -> int:
        """Register an existing task; the HTTP status."""
        status, answer = await self.call("PUT", f"/tasks/{task}", json=members)
        assert status in (200, 201), answer
        return status

    async def deliveries(self, **filters: str) -> list[dict[str, Any]]:
        """Deliveries, newest first."""
        status, answer = await self.call("GET", "/deliveries", params=filters)
        assert status == 200, answer
        return list(answer["deliveries"])

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its attempts."""
        status, answer = await self.call("GET", f"/deliveries/{delivery_id}")
        assert status == 200, answer
        return dict(answer)

    async def task(self, task: str) -> dict[str, Any]:
        """One task."""
        status, answer = await self.call("GET", f"/tasks/{task}")
        assert status == 200, answer
        return dict(answer)

    async def until_state(self, state: str, *, timeout: float = 15.0, **filters: str) -> list[dict[str, Any]]:
        """The deliveries in ``state``, as soon as there is one."""
        async with asyncio.timeout(timeout):
            while not (found := await self.deliveries(state=state, **filters)):
                await asyncio.sleep(0.02)
            return found

    async def until_verdict(self, task: str, verdict: str, *, timeout: float = 15.0) -> dict[str, Any]:
        """The task, as soon as relay's verdict on it is this."""
        async with asyncio.timeout(timeout):
            while (found := await self.task(task))["relay"]["verdict"] != verdict:
                await asyncio.sleep(0.02)
            return found


class OffsetClock(clock.SystemClock):
    """The machine's clock, moved on by ``offset`` seconds."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset

    def monotonic(self) -> float:
        return super().monotonic() + self.offset


async def passed(state: supervisor.LoopState) -> None:
    """Return once a loop has finished a pass that began after this was called."""
    async with asyncio.timeout(10):
        for _ in range(2):  # the first one may be under way
            seen = state.last_tick_at
            while state.last_tick_at == seen:
                state.loop.wake.set()
                await asyncio.sleep(0.005)


@dataclass
class Relay(Client):
    """A daemon in this process."""

    running: daemon.Running
    time: OffsetClock

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake every loop so that it notices."""
        self.time.offset += seconds
        for state in self.running.supervisor.loops.values():
            state.loop.wake.set()

    async def later(self, seconds: float) -> None:
        """``advance`` once nothing is under way: what an answer decides counts from when it is read."""
        async with asyncio.timeout(10):
            while self.running.supervisor.jobs_running:
                await asyncio.sleep(0.005)
        self.advance(seconds)


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    upstream: Peer,
    destinations: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    ways: dialling.Dialling = dialling.SYSTEM,
    **options: Any,
) -> AsyncIterator[Relay]:
    """Run a daemon until the block ends; then it is drained."""
    time = OffsetClock()
    chosen = settings.load(
        environ={}, overrides=overrides(directory, upstream, destinations or {}, **options)
    )
    async with (
        daemon.running(chosen, time=time, ways=ways) as process,
        caller(process.url) as session,
    ):
        yield Relay(process.url, session, process, time)


@contextlib.asynccontextmanager
async def caller(url: str, key: str = ADMIN_KEY) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that calls with ``key``."""
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, trust_env=False) as session:
        yield session


class Process:
    """``relay serve`` as a process of its own, in its own process group."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.command: tuple[str, ...] = ("-m", "relay", "serve", "--config")
        self.config = directory / "relay.toml"
        self.config.write_text(toml(config))
        self.config.chmod(0o600)
        self.directory = directory
        self.log = directory / "relay.log"
        self._said = directory / "relay.out"
        self.environment: dict[str, str] = {}
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the daemon; of its process group too."""
        assert self._process is not None
        return self._process.pid

    async def launch(self) -> None:
        """Start it without waiting for anything."""
        # No pipe: asyncio would take the process for running as long as a worker of it holds that open.
        with self.log.open("ab") as log, self._said.open("wb") as said:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(*self.command, str(self.config)),
                stdout=said,
                stderr=log,
                env=environment(**self.environment),
                cwd=self.directory,
                start_new_session=True,
            )

    async def start(self, *, timeout: float = 30.0) -> None:
        """Start it and wait until it says where it listens."""
        await self.launch()
        assert self._process is not None
        async with asyncio.timeout(timeout):
            while "\n" not in (said := self._said.read_text()) and self._process.returncode is None:
                await asyncio.sleep(0.01)
        line = said.partition("\n")[0]
        assert "listening on " in line, f"{line!r}; {self.log.read_text()[-2000:]}"
        self.url = line.split("listening on ")[1].strip()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon alone."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, *, timeout: float = 30.0) -> int:
        """Its exit status."""
        assert self._process is not None
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def stop(self) -> None:
        """Make sure that nothing of it is left."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.wait()

    async def until_gone(self, *, timeout: float = 15.0) -> None:
        """Return once no process of its process group is left."""
        async with asyncio.timeout(timeout):
            while processes_of_group(self.pid):
                await asyncio.sleep(0.1)


def processes_of_group(group: int) -> list[int]:
    """Living processes (no zombies) of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def environment(**more: str) -> dict[str, str]:
    """An environment without anything of relay's, and without proxies."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RELAY_") and "proxy" not in k.lower()}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def toml(config: Mapping[str, Any]) -> str:
    """The nested mapping as TOML: tables of scalars and lists, which is all that settings are."""
    lines: list[str] = []

    def table(path: str, values: Mapping[str, Any]) -> None:
        arrays = {k: v for k, v in values.items() if isinstance(v, list) and v and isinstance(v[0], Mapping)}
        scalars = {k: v for k, v in values.items() if not isinstance(v, Mapping) and k not in arrays}
        if path and (scalars or not values):
            lines.append(f"[{path}]")
        lines.extend(f"{key} = {_value(value)}" for key, value in scalars.items())
        for key, entries in arrays.items():
            for entry in entries:
                lines.append(f"[[{key}]]")
                lines.extend(f"{k} = {_value(v)}" for k, v in entry.items())
        for key, value in values.items():
            if isinstance(value, Mapping):
                table(f"{path}.{key}" if path else key, value)

    table("", config)
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
