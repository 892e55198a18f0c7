"""Every shell block of README.md is run, in order, by a shell, as a reader would.

Ports are replaced by free ones, nothing else. Blocks for Docker, systemd and setting up are checked
as far as a machine without them can: the files, targets and commands that they name are there.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import chaos, harness
from tests.fakes import receivers, sandbox

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python|toml)([^\n]*)\n(.*?)^```", README, re.M | re.S)


def blocks(language: str, kind: str = "") -> list[str]:
    """The README's blocks of one language and kind, in order."""
    return [text for lang, info, text in BLOCKS if lang == language and info.strip() == kind]


@pytest.mark.timeout(240)
async def test_the_shell_blocks_work_as_they_stand(tmp_path: Path) -> None:
    script = "\n".join(blocks("sh"))
    replaced = {port: str(await chaos.free_port()) for port in ("8080", "8090", "8787")}
    for port, free in replaced.items():
        script = script.replace(f":{port}", f":{free}").replace(f"--port {port}", f"--port {free}")
    env = harness.environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        RELAY_SERVER__PORT=replaced["8080"],
        RELAY_URL=f"http://127.0.0.1:{replaced['8080']}",
        HOME=str(tmp_path),
    )
    ready = f"until curl -sf -o /dev/null http://127.0.0.1:{replaced['8080']}/livez; do sleep 0.1; done\n"
    script = script.replace(
        "relay serve --config relay.toml &\n", "relay serve --config relay.toml &\n" + ready
    )
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=tmp_path,
            env=env,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(180):
            await process.wait()
            # What the last command caused may still be on its way to the listening receiver.
            while output.read_text().count("task.succeeded") < 3:
                await asyncio.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        text = output.read_text()
    assert process.returncode == 0, text
    assert "task.succeeded" in text
    assert "verified" in text
    assert "NOT VERIFIED" not in text
    assert '"task_id":"task_' in text.replace(" ", "")
    assert "relay_polls_total" in text
    assert (tmp_path / "relay-backup.db").stat().st_size > 0


def test_setup_blocks_name_targets_of_the_makefile() -> None:
    [setup] = blocks("sh", "setup")
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\S+)", setup, re.M)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_systemd_block_installs_the_unit_that_reads_that_configuration() -> None:
    [systemd] = blocks("sh", "systemd")
    unit = (ROOT / "systemd" / "relay.service").read_text()
    assert "/etc/relay/relay.toml" in systemd
    assert "LoadCredential=relay.toml:/etc/relay/relay.toml" in unit
    assert "cp systemd/relay.service" in systemd
    [install] = blocks("sh", "install")
    assert "/opt/relay/bin/pip" in install
    assert "ExecStart=/opt/relay/bin/relay serve" in unit


def test_the_docker_block_uses_what_the_image_has() -> None:
    [docker] = blocks("sh", "docker")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["relay"]' in dockerfile
    for line in re.findall(r" relay (serve|keys create)", docker):
        done = subprocess.run(
            [sys.executable, "-m", "relay", *line.split(), "--help"],
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0


async def test_the_signature_check_of_the_readme_accepts_what_relay_sends(tmp_path: Path) -> None:
    [code] = blocks("python")
    names: dict[str, Any] = {}
    exec(code, names)
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox() as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        await relay.call("POST", "/destinations/pipeline/test")
        [request] = hook.requests
        assert names["verified"](harness.SECRET, request.headers, request.body)
        assert not names["verified"](harness.SECRET, request.headers, request.body + b" ")


def test_the_configuration_of_the_readme_is_understood(tmp_path: Path) -> None:
    [config] = blocks("toml")
    file = tmp_path / "relay.toml"
    file.write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "relay", "config", "check", "--config", str(file)],
        capture_output=True,
        text=True,
        env=harness.environment(RELAY_UPSTREAMS__MINDVIDEO__API_KEY="mv_test_key"),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Slack" in done.stdout
