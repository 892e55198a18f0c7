"""The wheel: it builds without a network, holds all that is read at run time, and works alone."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import relay


@pytest.fixture(scope="module")
def wheel(root: Path, bare_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(build, cwd=root, env=bare_env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_holds_every_file_of_the_package(root: Path, names: set[str]) -> None:
    files = {
        path.relative_to(root).as_posix()
        for path in (root / "relay").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - names == set()


@pytest.mark.parametrize("ending", [".sql", "/models.json", "/sample.mp4", "relay/py.typed"])
def test_holds_the_data_that_is_read_at_run_time(names: set[str], ending: str) -> None:
    assert [name for name in names if name.endswith(ending)]


def test_holds_the_package_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/", 1)[0] for name in names} == {
        "relay",
        f"render_relay-{relay.__version__}.dist-info",
    }
    assert not [name for name in names if re.search(r"(^|/)(test_|tests/|conftest|__pycache__)", name)]


def test_carries_the_licence(names: set[str]) -> None:
    assert f"render_relay-{relay.__version__}.dist-info/licenses/LICENSE" in names


def test_versions_agree(metadata: dict[str, Any]) -> None:
    assert metadata["project"]["version"] == relay.__version__


def test_works_from_the_wheel_alone(
    wheel: Path, relay_command: list[str], bare_env: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(target), str(wheel)], env=bare_env, check=True)
    done = subprocess.run(
        [*relay_command, "--version"],
        cwd=tmp_path,
        env=bare_env | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert relay.__version__ in done.stdout
