"""``relay serve`` as a process: what it says and how it exits when something is wrong from the start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.fakes import sandbox


class Nobody:
    """An upstream that is never asked."""

    url = "http://127.0.0.1:9"


def serve(
    directory: Path, config: Mapping[str, Any] | str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``relay serve`` to its end, which must come by itself."""
    file = directory / "bad.toml"
    file.write_text(config if isinstance(config, str) else harness.toml(config))
    return subprocess.run(
        [sys.executable, "-m", "relay", "serve", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env=harness.environment(**environment),
        check=False,
    )


def config(directory: Path, **changes: Any) -> dict[str, Any]:
    """A good configuration, with changes."""
    return {**harness.overrides(directory, Nobody(), {}), **changes}


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that says what is wrong."""
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert not done.stdout
    return lines[0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sevrer": {"port": 1}}, "sevrer: unknown key; did you mean 'server'?"),
        ({"server": {"prot": 1}}, "server.prot: unknown key; did you mean 'port'?"),
        ({"server": {"port": "eighty"}}, "server.port"),
        ({"destinations": {"x": {"url": "nonsense"}}}, "destinations.x.url"),
        ({"destinations": {"x": {"url": "https://example.com/hook"}}}, "destinations.x.secret"),
        (
            {"destinations": {"x": {"url": "https://example.com/hook", "secret": "whsec_!"}}},
            "destinations.x.secret",
        ),
        ({"destinations": {"X": {"url": "json://127.0.0.1"}}}, "destinations"),
        ({"operator": {"notify": ["nobody"]}}, "operator.notify"),
        ({"upstreams": {}}, "no upstream is configured"),
        ({"default_upstream": "mindvideos"}, "default_upstream"),
        ({"network": {"allow_private": ["10.0.0.1/8"]}}, "network.allow_private"),
        ({"store": {"url": "mysql://x"}}, "store.url"),
        ({"catalogue": {"files": ["none.json"]}}, "none.json: No such file"),
        ({"catalogue": {"retired": ["vidu-q3"]}}, "there is no model 'vidu-q3' to retire"),
    ],
)
def test_configuration_that_cannot_be_used_exits_2_with_one_line(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    done = serve(tmp_path, config(tmp_path, **changes))
    assert says in one_line(done)
    assert done.returncode == 2


def test_an_unknown_environment_setting_names_the_nearest(tmp_path: Path) -> None:
    done = serve(tmp_path, config(tmp_path), RELAY_SERVER__PROT="1")
    assert "RELAY_SERVER__PROT: unknown key; did you mean 'port'?" in one_line(done)
    assert done.returncode == 2


def test_errors_never_print_what_was_configured(tmp_path: Path) -> None:
    done = serve(
        tmp_path,
        config(
            tmp_path,
            security={"admin_key": "short-secret"},
            destinations={"x": {"url": "slackk://secret-token/secret", "secret": 5}},
        ),
    )
    assert done.returncode == 2
    assert "secret-token" not in done.stderr
    assert "short-secret" not in done.stderr


def test_a_catalogue_with_a_bad_schema_exits_2_before_anything_listens(tmp_path: Path) -> None:
    entry = {"slug": "ours-1", "output_kind": "images", "cost_estimate": 0.1, "example_input": {}}
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": [{**entry, "input_schema": {"type": "sometimes"}}]}))
    done = serve(tmp_path, config(tmp_path, catalogue={"files": [str(file)]}))
    assert "model 'ours-1': /input_schema/type" in one_line(done)
    assert done.returncode == 2


@pytest.mark.parametrize(
    "content", ["[server\nport=1", "\ud800".encode("utf-8", "surrogatepass").decode("latin1")]
)
def test_a_file_that_is_no_toml_is_said_so(tmp_path: Path, content: str) -> None:
    done = serve(tmp_path, content)
    assert "bad.toml" in one_line(done)
    assert done.returncode == 2


def test_a_database_that_cannot_be_written_exits_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    done = serve(tmp_path, config(tmp_path, store={"url": f"sqlite:///{tmp_path}/file/relay.db"}))
    assert "relay.db" in one_line(done)
    assert done.returncode in (1, 2)


async def test_a_second_daemon_on_one_database_names_the_first(tmp_path: Path) -> None:
    process = harness.Process(tmp_path, config(tmp_path))
    try:
        await process.start()
        done = await asyncio.to_thread(serve, tmp_path, config(tmp_path))
        assert str(process.pid) in one_line(done)
        assert done.returncode == 1
    finally:
        await process.stop()


async def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    process = harness.Process(tmp_path, config(tmp_path))
    try:
        await process.start()
        port = int(process.url.rpartition(":")[2])
        done = await asyncio.to_thread(
            serve, tmp_path, config(tmp_path / "other", server={"host": "127.0.0.1", "port": port})
        )
        assert f"127.0.0.1:{port}" in done.stderr
        assert "in use" in done.stderr
        assert done.returncode == 1
    finally:
        await process.stop()


async def test_without_any_key_it_says_how_to_make_one_and_a_local_key_works_at_once(tmp_path: Path) -> None:
    async with sandbox.running_sandbox() as upstream:
        settings = {**harness.overrides(tmp_path, upstream, {}), "security": {}}
        process = harness.Process(tmp_path, settings)
        try:
            await process.start()
            assert "relay keys create" in process.log.read_text()
            made = await asyncio.to_thread(
                subprocess.run,
                [
                    *(sys.executable, "-m", "relay", "keys", "create", "me", "--role", "admin"),
                    *("--local", "--json", "--config", str(process.config)),
                ],
                capture_output=True,
                text=True,
                timeout=60,
                env=harness.environment(),
                check=True,
            )
            key = json.loads(made.stdout)["key"]
            async with harness.caller(process.url, key) as session:
                await harness.Client(process.url, session).submit()
            process.signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            await process.stop()


async def test_ready_says_so_and_metrics_name_the_loops(tmp_path: Path) -> None:
    async with sandbox.running_sandbox(speed=1000) as upstream, harness.running(tmp_path, upstream) as relay:
        await relay.submit()
        for path, part in (("livez", ""), ("readyz", ""), ("metrics", "relay_polls_total")):
            async with relay.session.get(f"{relay.url}/{path}") as reply:
                assert reply.status == 200
                assert part in await reply.text()


async def test_systemd_is_told_ready_and_stopping_and_fed_while_loops_move(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        process = harness.Process(tmp_path, config(tmp_path))
        process.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        try:
            await process.start()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(20):
                heard = {await loop.sock_recv(listening, 100) for _ in range(3)}
                assert heard == {b"READY=1", b"WATCHDOG=1"}
                process.signal(signal.SIGTERM)
                while b"STOPPING=1" not in heard:
                    heard.add(await loop.sock_recv(listening, 100))
            assert await process.wait() == 0
        finally:
            await process.stop()
