"""What every user meets first: help, version, and mistakes in what was typed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import relay as package
from tests.cli.conftest import Runner

HEAVY = ("aiohttp", "pydantic", "aiosqlite", "structlog", "prometheus_client", "apprise", "uvloop")


def test_the_version_is_told_without_loading_what_is_heavy() -> None:
    code = (
        "import sys\n"
        "from relay import cli\n"
        "assert cli.run(['--version']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"relay {package.__version__}", "[]"]
    assert ran.stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        "",
        "serve",
        "demo",
        "sandbox",
        "submit",
        "watch",
        "tasks",
        "tasks ls",
        "tasks show",
        "tasks events",
        "tasks stop",
        "deliveries",
        "deliveries ls",
        "deliveries show",
        "deliveries redeliver",
        "redeliveries",
        "redeliveries create",
        "redeliveries ls",
        "redeliveries show",
        "redeliveries run",
        "redeliveries pause",
        "redeliveries cancel",
        "destinations",
        "destinations ls",
        "destinations show",
        "destinations test",
        "keys",
        "keys create",
        "keys ls",
        "keys disable",
        "keys enable",
        "keys rm",
        "listen",
        "config",
        "config check",
        "config show",
        "config example",
        "migrate",
        "backup",
    ],
)
async def test_every_command_explains_itself(relay: Runner, command: str) -> None:
    ended = await relay(*command.split(), "--help")
    assert ended.code == 0
    assert "Usage: relay " + command in " ".join(ended.out.split())
    assert "\x1b" not in ended.out


async def test_help_names_every_command_in_a_group(relay: Runner) -> None:
    ended = await relay("--help")
    for group in ("Try it", "Generate and be told", "Look after it", "Run it"):
        assert group in ended.out
    assert "─ Commands ─" not in ended.out  # nothing was left out of the groups


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["serv"], "serv"),
        (["tasks", "list"], "list"),
        (["tasks", "ls", "--state", "dead"], "--state"),
        (["tasks", "ls", "--status", "done"], "processing"),
        (["watch"], "TASK"),
        (["sandbox", "--port", "70000"], "65535"),
        (["sandbox", "--speed", "0"], "--speed"),
        (["sandbox", "--speed", "nan"], "--speed"),
        (["sandbox", "--key", "two words"], "--key"),
    ],
)
async def test_wrong_usage_is_one_error_and_exit_2(relay: Runner, args: list[str], hint: str) -> None:
    ended = await relay(*args)
    assert ended.code == 2
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert hint in errors[0]
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_without_a_command_the_help_is_shown() -> None:
    ran = subprocess.run([sys.executable, "-m", "relay"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "Usage: relay" in ran.stdout + ran.stderr


def test_a_reader_that_goes_early_is_no_failure() -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m relay config example | head -n 1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("# relay")
    assert ran.stderr == ""
