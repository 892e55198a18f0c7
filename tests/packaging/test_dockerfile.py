"""The Dockerfile, as far as it can be told without Docker: paths, user, and what it starts."""

import asyncio
import fnmatch
import json
import re
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay import settings


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    instructions: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for instruction, value in self.instructions if instruction == name]

    def env(self) -> dict[str, str]:
        pairs = (pair.partition("=") for value in self.values("ENV") for pair in shlex.split(value))
        return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def stages(root: Path) -> list[Stage]:
    text = re.sub(r"\\\n", " ", (root / "Dockerfile").read_text("utf-8"))
    found: list[Stage] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "FROM":
            found.append(Stage(base=value, instructions=[]))
        elif line and not line.startswith("#") and found:
            found[-1].instructions.append((name, value.strip()))
    return found


@pytest.fixture(scope="module")
def final(stages: list[Stage]) -> Stage:
    return stages[-1]


def copied(stages: list[Stage]) -> list[str]:
    """What COPY takes from the repository."""
    values = [value for stage in stages for value in stage.values("COPY") if "--from=" not in value]
    return [source.rstrip("/") for value in values for source in value.split()[:-1]]


def ignored(root: Path, path: str) -> bool:
    """Whether .dockerignore keeps `path` out of the build; the last matching pattern decides."""
    out = False
    for line in (root / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch.fnmatch(path, pattern):
            out = not line.startswith("!")
    return out


def test_there_are_two_stages_of_one_python(
    root: Path, stages: list[Stage], metadata: dict[str, Any]
) -> None:
    build, run = stages
    assert build.base == f"{run.base} AS build"
    assert run.base == "python:${PYTHON}-slim"
    version = re.search(r"^ARG PYTHON=(\S+)$", (root / "Dockerfile").read_text("utf-8"), re.M)
    assert version
    assert f"Programming Language :: Python :: {version.group(1)}" in metadata["project"]["classifiers"]


def test_what_is_copied_exists_and_is_not_ignored(root: Path, stages: list[Stage]) -> None:
    sources = copied(stages)
    assert sources
    for source in sources:
        assert (root / source).exists(), source
        assert not ignored(root, source), source


@pytest.mark.parametrize("path", [".git", ".venv", "tests", "relay.db", "relay.toml", "docs"])
def test_what_is_not_needed_stays_out(root: Path, path: str) -> None:
    assert ignored(root, path)


def test_what_the_wheel_is_built_from_is_there(stages: list[Stage], metadata: dict[str, Any]) -> None:
    project = metadata["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    needed |= set(metadata["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert needed <= set(copied(stages))


def test_the_package_index_is_asked_for_hashed_files_only(stages: list[Stage]) -> None:
    commands = [command for stage in stages for run in stage.values("RUN") for command in run.split("&&")]
    installs = [command for command in commands if " install " in command and "pip" in command]
    assert installs
    for install in installs:
        assert "--require-hashes -r requirements" in install or "--no-deps --no-index" in install


def test_it_runs_as_a_fixed_user_without_rights(final: Stage) -> None:
    (user,) = final.values("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    (setup,) = final.values("RUN")
    uid, gid = user.split(":")
    assert f"--uid {uid} --gid {gid}" in setup
    order = [name for name, _ in final.instructions]
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_state_lives_in_the_volume(final: Stage) -> None:
    assert final.values("VOLUME") == final.values("WORKDIR") == ["/data"]
    assert settings.StoreSettings().url == "sqlite:///relay.db"
    assert f"-o {final.values('USER')[0].split(':')[0]}" in final.values("RUN")[0]


def test_the_environment_is_understood(final: Stage) -> None:
    ours = {name: value for name, value in final.env().items() if name.startswith("RELAY_")}
    loaded = settings.load(environ=ours)
    assert loaded.server.host == "0.0.0.0"
    assert [str(loaded.server.port)] == final.values("EXPOSE")


def test_stopping_gives_the_drain_its_time(final: Stage) -> None:
    """`docker stop` sends STOPSIGNAL and kills after 10 s unless told otherwise."""
    assert final.values("STOPSIGNAL") == ["SIGTERM"]
    assert settings.Server().drain_timeout < 10


def test_the_entry_point_is_the_console_script(final: Stage, metadata: dict[str, Any]) -> None:
    (entry,) = json.loads(final.values("ENTRYPOINT")[0])
    assert metadata["project"]["scripts"][entry] == "relay.cli:main"
    assert final.env()["PATH"].startswith("/opt/relay/bin:")


async def test_what_the_image_starts_becomes_healthy_and_stops(
    final: Stage, relay_command: list[str], bare_env: dict[str, str], tmp_path: Path
) -> None:
    """The image's command and health check outside an image: on loopback, a free port, another directory."""
    env = bare_env | {name: value for name, value in final.env().items() if name.startswith("RELAY_")}
    env |= {"RELAY_SERVER__HOST": "127.0.0.1", "RELAY_SERVER__PORT": "0"}
    env |= {
        "RELAY_UPSTREAMS__MINDVIDEO__API_KEY": "mv_test_sandbox",
        "RELAY_UPSTREAMS__MINDVIDEO__BASE_URL": "http://127.0.0.1:9",
    }
    (check,) = re.findall(r"CMD (\[.*\])$", final.values("HEALTHCHECK")[0])
    daemon = await asyncio.create_subprocess_exec(
        *[*relay_command, *json.loads(final.values("CMD")[0])],
        cwd=tmp_path,
        env=env,
        stdout=asyncio.subprocess.PIPE,
    )
    assert daemon.stdout is not None
    try:
        async with asyncio.timeout(30):
            address = None
            while address is None:
                line = (await daemon.stdout.readline()).decode()
                assert line, "ended before it listened"
                address = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            env["RELAY_SERVER__PORT"] = address.group(1)

            async def healthy() -> bool:
                arguments = [sys.executable, *json.loads(check)[1:]]
                process = await asyncio.create_subprocess_exec(*arguments, cwd=tmp_path, env=env)
                return await process.wait() == 0

            assert await healthy()
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
            assert not await healthy()
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()
    assert (tmp_path / "relay.db").exists()
