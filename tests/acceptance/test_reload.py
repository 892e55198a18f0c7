"""SIGHUP: destinations, routes and operator from the file as it is now, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay import settings
from relay.domain import errors
from tests import harness
from tests.fakes import receivers, sandbox

FAST = {"failing": {"resume_rate": 1000.0}}


class Daemon:
    """A daemon in this process that can be given other settings."""

    def __init__(self, directory: Path, upstream: harness.Peer, relay: harness.Relay) -> None:
        self._directory = directory
        self._upstream = upstream
        self.relay = relay

    async def reload(self, destinations: dict[str, Any], **sections: Any) -> Any:
        chosen = harness.overrides(self._directory, self._upstream, destinations, **{**FAST, **sections})
        return await self.relay.running.reload(settings.load(environ={}, overrides=chosen))


@contextlib.asynccontextmanager
async def daemon(
    tmp_path: Path, destinations: dict[str, Any], **sections: Any
) -> AsyncIterator[tuple[Daemon, harness.Relay]]:
    async with (
        sandbox.running_sandbox(speed=1000) as upstream,
        harness.running(tmp_path, upstream, destinations, **{**FAST, **sections}) as relay,
    ):
        yield Daemon(tmp_path, upstream, relay), relay


@pytest.fixture
async def hook() -> AsyncIterator[receivers.Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


def to(hook: receivers.Receiver, path: str, **more: Any) -> dict[str, Any]:
    return {"url": f"{hook.url}/{path}", "secret": harness.SECRET, **more}


async def test_destinations_come_change_and_go(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a"), "b": to(hook, "b"), "c": to(hook, "c")}) as (
        running,
        relay,
    ):
        changes = await running.reload(
            {"a": to(hook, "a"), "b": to(hook, "moved"), "c": to(hook, "c", rate=5.0), "d": to(hook, "d")}
        )
        assert (changes.added, changes.changed, changes.removed) == (("d",), ("b", "c"), ())
        assert (changes.routes, changes.operator) == (False, False)
        await relay.submit(notify=["a", "b", "c", "d"])
        told = await hook.wait_for(4)
        assert sorted(request.path for request in told) == ["/a", "/c", "/d", "/moved"]
        assert (await running.reload({"a": to(hook, "a")})).removed == ("b", "c", "d")
        status, _ = await relay.call("PUT", "/tasks/x", json={"notify": ["b"]})
        assert status == 422


async def test_one_that_vanishes_leaves_what_it_is_owed_held_until_it_is_back(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a", schedule=[0, 600])}) as (running, relay):
        hook.answer = receivers.Answer(status=500)
        await relay.submit(notify=["a"])
        await relay.until_state("pending", reason="http_500")
        await running.reload({})
        [held] = await relay.until_state("held")
        assert held["reason"] == "destination_missing"
        hook.answer = receivers.Answer()
        assert (await running.reload({"a": to(hook, "a")})).added == ("a",)
        told = await hook.wait_for(2)
        assert told[1].headers["webhook-id"] == held["id"]


async def test_one_that_was_paused_is_paused_when_it_is_back(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a")}) as (running, relay):
        registry = relay.running.services.destinations
        paused = await registry.pause("a")
        await running.reload({})
        await running.reload({"a": to(hook, "a")})
        assert registry.get("a").health == paused.health
        await relay.submit(notify=["a"])
        assert (await relay.until_state("held"))[0]["reason"] == "paused"


async def test_what_is_in_flight_ends_as_it_began(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a", timeout=60.0)}) as (running, relay):
        hook.script = [receivers.Answer(manner=receivers.Manner.HANG)]
        await relay.submit(notify=["a"])
        await hook.wait_for(1)
        await running.reload({"a": to(hook, "b", timeout=60.0)})
        await relay.submit(notify=["a"], prompt="another")
        assert (await hook.wait_for(2))[1].path == "/b"
        assert hook.closed_by_peer == 0


async def test_routes_and_operator_are_followed(tmp_path: Path, hook: receivers.Receiver) -> None:
    both = {"a": to(hook, "a"), "b": to(hook, "b")}
    async with daemon(tmp_path, both, routes=[{"notify": ["a"]}]) as (running, relay):
        await relay.submit()
        assert (await hook.wait_for(1))[0].path == "/a"
        changes = await running.reload(both, routes=[{"notify": ["b"]}], operator={"notify": ["a"]})
        assert (changes.routes, changes.operator, changes.changed) == (True, True, ())
        await relay.submit(prompt="another")
        assert (await hook.wait_for(2))[1].path == "/b"
        await relay.running.services.dispatcher.notify_operator("trouble", key="x", text="y")
        assert (await hook.wait_for(3))[2].path == "/a"


async def test_one_bad_destination_changes_nothing(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a")}) as (running, relay):
        registry = relay.running.services.destinations
        await registry.create("made", {"url": f"{hook.url}/made"})
        before = registry.all()
        for bad in (
            {"b": to(hook, "b"), "c": {"url": "slak://a/b/c"}},
            {"a": to(hook, "moved"), "made": to(hook, "made")},
        ):
            with pytest.raises(errors.ConfigurationError, match=r"^destinations\.(c\.url|made): "):
                await running.reload(bad)
            assert registry.all() == before
        await relay.submit(notify=["a"])
        assert (await hook.wait_for(1))[0].path == "/a"


async def test_what_failed_at_a_former_address_is_not_counted_against_the_present_one(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    """Else the first failure after the repair would end a window that the former address filled."""
    hook.answer = receivers.Answer(status=500)
    moved = {"a": to(hook, "moved")}
    async with daemon(tmp_path, {"a": to(hook, "a")}) as (running, relay):
        registry = relay.running.services.destinations
        await registry.create("made", to(hook, "made"))
        await relay.submit(notify=["a", "made"])
        async with asyncio.timeout(10):
            while any(one.health.failing_since is None for one in registry.all()):
                await asyncio.sleep(0.01)
        await registry.change("made", {"rate": 5.0})
        await running.reload({"a": to(hook, "a", rate=5.0)})
        assert all(one.health.failing_since is not None for one in registry.all())
        await registry.change("made", {"url": f"{hook.url}/repaired"})
        await running.reload(moved)
        assert [one.health.failing_since for one in registry.all()] == [None, None]
    hook.answer = receivers.Answer()
    async with daemon(tmp_path, moved) as (_, relay):
        registry = relay.running.services.destinations
        assert [one.health.failing_since for one in registry.all()] == [None, None]


async def test_those_made_by_api_stay(
    tmp_path: Path, hook: receivers.Receiver, signing_secrets: set[str]
) -> None:
    async with daemon(tmp_path, {"a": to(hook, "a")}) as (running, relay):
        registry = relay.running.services.destinations
        made = await registry.create("made", {"url": f"{hook.url}/made"})
        assert made.secret is not None
        signing_secrets.add(made.secret)
        await running.reload({})
        assert [known.name for known in registry.all()] == ["made"]
        await relay.submit(notify=["made"])
        await hook.wait_for(1)


# -- the process ------------------------------------------------------------------------------------


class Systemd:
    """What a notify socket was told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def until(self, state: str, count: int) -> None:
        async with asyncio.timeout(30):
            while sum(state in one.splitlines() for one in self.told) < count:
                told = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                self.told.append(told.decode())

    def close(self) -> None:
        self._socket.close()


def lines(log: Path, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


async def reload_metrics(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        samples = (line.split() for line in (await reply.text()).splitlines() if line[:1] != "#")
        return {name: float(value) for name, value in samples if name.startswith("relay_config_reload_")}


async def test_a_signal_has_the_file_read_again(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with sandbox.running_sandbox(speed=1000) as upstream:

        def config(*names: str, **sections: Any) -> dict[str, Any]:
            named = {name: to(hook, name) for name in names}
            return harness.overrides(tmp_path, upstream, named, logs={"format": "json"}, **sections)

        process = harness.Process(tmp_path, config("a", "b"))
        systemd = Systemd(tmp_path / "notify")
        process.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            await process.start()
            await systemd.until("READY=1", 1)
            started = await reload_metrics(process.url)
            assert started["relay_config_reload_success"] == 1
            process.config.write_text(
                harness.toml(config("a", "c", retention={"tasks_days": 7.0}, routes=[{"notify": ["c"]}]))
            )
            process.signal(signal.SIGHUP)
            await systemd.until("READY=1", 2)
            reloading = next(one for one in systemd.told if "RELOADING=1" in one.splitlines())
            assert "MONOTONIC_USEC=" in reloading
            [said] = lines(process.log, "configuration.reloaded")
            assert (said["added"], said["changed"], said["removed"]) == (["c"], [], ["b"])
            assert (said["routes"], said["operator"], said["by"]) == (True, False, "SIGHUP")
            [warning] = lines(process.log, "settings changed that need a restart")
            assert warning["sections"] == ["retention"]
            async with harness.caller(process.url) as session:
                relay = harness.Client(process.url, session)
                await relay.submit()
                assert (await hook.wait_for(1))[0].path == "/c"
                process.config.write_text("[server]\nprot = 1\n[destinations.d]\nurl = 'x'\n")
                process.signal(signal.SIGHUP)
                await systemd.until("READY=1", 3)
                [failed] = lines(process.log, "configuration not reloaded, the former one stays")
                assert "server.prot: unknown key" in failed["error"]
                assert len(lines(process.log, "configuration.reloaded")) == 1
                refused = await reload_metrics(process.url)
                assert refused["relay_config_reload_success"] == 0
                since = "relay_config_reload_timestamp_seconds"
                assert refused[since] > started[since]
                await relay.submit(prompt="another")
                assert (await hook.wait_for(2))[1].path == "/c"
            assert lines(process.log, "no destination is configured any more") == []
            process.config.write_text("")
            process.signal(signal.SIGHUP)
            await systemd.until("READY=1", 4)
            [warning] = lines(process.log, "no destination is configured any more")
            assert (warning["level"], warning["removed"]) == ("warning", ["a", "c"])
            assert (await reload_metrics(process.url))["relay_config_reload_success"] == 1
            process.signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            systemd.close()
            await process.stop()
        assert harness.SECRET not in process.log.read_text()


async def test_a_wrong_key_ends_the_start_with_one_line(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with sandbox.running_sandbox(speed=1000) as upstream:
        security = {"admin_key": harness.ADMIN_KEY, "secret_key": ["an-old-key-of-some-length"]}
        async with harness.running(tmp_path, upstream, security=security) as relay:
            await relay.running.services.destinations.create("made", {"url": f"{hook.url}/made"})
        wrong = {"admin_key": harness.ADMIN_KEY, "secret_key": ["another-key-of-some-length"]}
        process = harness.Process(tmp_path, harness.overrides(tmp_path, upstream, {}, security=wrong))
        await process.launch()
        assert await process.wait() == 2
        [line] = [line for line in process.log.read_text().splitlines() if line.startswith("error: ")]
        assert "security.secret_key: none of these keys opens" in line
        assert "another-key" not in process.log.read_text()
