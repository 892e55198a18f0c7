"""The systemd unit: systemd accepts it and rates it safe, and what it names is what relay understands."""

import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from relay import settings

EXPOSURE_MAX = 1.5
EXECUTABLE = "/opt/relay/bin/relay"


@pytest.fixture(scope="module")
def unit(root: Path) -> Path:
    return root / "systemd" / "relay.service"


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    assert found, "systemd-analyze judges the unit; on Debian: apt-get install -y systemd"
    return found


@pytest.fixture(scope="module")
def directives(unit: Path) -> dict[str, list[str]]:
    """Every value of each directive, by `Section.Name`, in order."""
    values: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in unit.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            values[f"{section}.{name}"].append(value)
    return values


def seconds(span: str) -> float:
    """Of a time span in seconds, the only unit that the file uses."""
    assert span.endswith("s"), span
    return float(span.removesuffix("s"))


def serve_arguments(directives: dict[str, list[str]], credentials: Path) -> list[str]:
    """ExecStart without its program, with the directory of the credentials filled in."""
    (command,) = directives["Service.ExecStart"]
    program, *arguments = shlex.split(command.replace("%d", str(credentials)))
    assert program == EXECUTABLE
    return arguments


def test_exposure_is_low(unit: Path, analyze: str) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rated = re.search(r"Overall exposure level for relay\.service: ([0-9.]+)", done.stdout)
    assert rated, done.stdout
    assert float(rated.group(1)) <= EXPOSURE_MAX


def test_systemd_understands_every_line(unit: Path, analyze: str, tmp_path: Path) -> None:
    installed = tmp_path / "relay.service"
    installed.write_text(unit.read_text("utf-8").replace(f"ExecStart={EXECUTABLE}", "ExecStart=/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not [line for line in done.stderr.splitlines() if "relay.service" in line]
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "relay"),
        ("StateDirectoryMode", "0700"),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("UMask", "0077"),
    ],
)
def test_required_directives(directives: dict[str, list[str]], name: str, value: str) -> None:
    assert directives[f"Service.{name}"] == [value]


def test_times_leave_room_for_the_drain(directives: dict[str, list[str]]) -> None:
    assert seconds(directives["Service.TimeoutStopSec"][0]) > settings.Server().drain_timeout + 5
    assert seconds(directives["Service.WatchdogSec"][0]) >= 30


def test_a_missing_file_does_not_stop_the_start(directives: dict[str, list[str]]) -> None:
    """systemd passes over a missing credential without a path, and over a path that has a SetCredential."""
    fallbacks = {value.partition(":")[0] for value in directives["Service.SetCredential"]}
    for value in directives["Service.LoadCredential"]:
        name, _, path = value.partition(":")
        assert name in fallbacks or not path.startswith("/"), value


def test_the_stand_in_for_the_configuration_means_the_defaults(
    directives: dict[str, list[str]], tmp_path: Path
) -> None:
    (value,) = directives["Service.SetCredential"]
    name, _, text = value.partition(":")
    file = tmp_path / name
    file.write_text(text)
    assert file == Path(serve_arguments(directives, tmp_path)[-1])
    assert settings.load(file, environ={}) == settings.load(environ={})


def test_the_credentials_are_settings(directives: dict[str, list[str]], tmp_path: Path) -> None:
    named = [value.partition(":")[0] for value in directives["Service.LoadCredential"]]
    for name in named:
        (tmp_path / name).write_text(f"the-secret-of-{name}\n")
    config = tmp_path / "relay.toml"
    config.write_text('[upstreams.mindvideo]\nbase_url = "https://api.example.com"\n')
    loaded = settings.load(config, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    secrets = [loaded.upstreams["mindvideo"].api_key, loaded.security.admin_key]
    given = {secret.get_secret_value() for secret in secrets if secret is not None}
    assert given == {f"the-secret-of-{name}" for name in named if "__" in name}


def test_an_unusable_configuration_ends_with_the_status_that_is_not_restarted(
    directives: dict[str, list[str]], relay_command: list[str], bare_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "relay.toml").write_text("[server]\nprot = 8080\n")
    done = subprocess.run(
        [*relay_command, *serve_arguments(directives, tmp_path)],
        cwd=tmp_path,
        env=bare_env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == int(directives["Service.RestartPreventExitStatus"][0]), done.stderr
    assert "port" in done.stderr
