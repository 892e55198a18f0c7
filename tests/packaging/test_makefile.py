"""The Makefile and .ci/run: what `make check` is, and what a user without the prerequisites is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def make(root: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "target", ["help", "demo", "test", "check", "format", "requirements", "chaos", "fuzz", "bench", "clean"]
)
def test_help_lists_the_target(root: Path, bare_env: dict[str, str], target: str) -> None:
    listed = {line.split()[1] for line in make(root, bare_env).stdout.splitlines()}
    assert target in listed


@pytest.mark.parametrize(
    "command",
    [
        "ruff check",
        "ruff format --quiet --check",
        "bin/mypy",
        "bin/lint-imports",
        "python -m pytest -n 3 --dist worksteal -k one",
    ],
)
def test_check_runs(root: Path, bare_env: dict[str, str], command: str) -> None:
    done = make(root, bare_env, "--dry-run", "check", "PYTEST_ARGS=-k one")
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


def test_chaos_fuzz_and_bench_take_their_figures(root: Path, bare_env: dict[str, str]) -> None:
    assert "-m tests.chaos --kills 7" in make(root, bare_env, "-n", "chaos", "KILLS=7").stdout
    assert "-m tests.fuzz --cases 7" in make(root, bare_env, "-n", "fuzz", "CASES=7").stdout
    assert "for name in polls;" in make(root, bare_env, "-n", "bench", "BENCH=polls").stdout


@pytest.mark.parametrize("target", ["demo", "test"])
@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("case $2 in *version_info*) exit 1;; esac; echo Python 3.9.2", ["3.11", "Python 3.9.2"]),
        ("case $2 in *ensurepip*) exit 1;; esac", ["apt-get install -y python3-venv"]),
        (None, ["apt-get install -y make python3-venv"]),
    ],
    ids=["too old", "without venv", "absent"],
)
def test_a_missing_prerequisite_is_named(
    root: Path, bare_env: dict[str, str], tmp_path: Path, target: str, python: str | None, told: list[str]
) -> None:
    named = tmp_path / "python3"
    if python is not None:
        script(named, python)
    done = make(root, bare_env, target, f"PYTHON={named}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode == 2
    assert all(words in done.stderr for words in told), done.stderr
    assert not (tmp_path / "venv").exists()


def run_ci(root: Path, tmp_path: Path, **stubs: str) -> subprocess.CompletedProcess[str]:
    """Runs .ci/run with nothing on the PATH but `stubs`; what they are called with is in tmp_path/log."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    for name, text in stubs.items():
        script(tools / name.replace("_", "-"), f'echo {name} "$@" >> {tmp_path}/log\n{text}')
    return subprocess.run(
        [root / ".ci" / "run"], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )


def test_ci_runs_check_when_everything_is_there(root: Path, tmp_path: Path) -> None:
    done = run_ci(root, tmp_path, make="", python3="", systemd_analyze="", id="echo 1000")
    assert done.returncode == 0, done.stderr
    assert "make check" in (tmp_path / "log").read_text()
    assert "apt-get" not in (tmp_path / "log").read_text()


def test_ci_passes_on_a_failure(root: Path, tmp_path: Path) -> None:
    assert run_ci(root, tmp_path, make="exit 2", python3="", systemd_analyze="").returncode == 2


def test_ci_installs_what_is_missing_as_root(root: Path, tmp_path: Path) -> None:
    done = run_ci(root, tmp_path, make="", python3="exit 1", id="echo 0", apt_get="")
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "log").read_text().splitlines()
    assert called.index("apt_get update -qq") < next(
        i
        for i, line in enumerate(called)
        if line.startswith("apt_get install") and "python3-venv systemd" in line
    )


@pytest.mark.parametrize(
    "who", [{"id": "echo 1000", "apt_get": ""}, {"id": "echo 0"}], ids=["not root", "not Debian"]
)
def test_ci_names_what_it_cannot_install_and_fails(root: Path, tmp_path: Path, who: dict[str, str]) -> None:
    done = run_ci(root, tmp_path, make="", python3="", **who)
    assert done.returncode == 1
    assert "apt-get install -y systemd" in done.stderr
    assert "make check" not in (tmp_path / "log").read_text()


def test_ci_is_executable(root: Path) -> None:
    assert os.access(root / ".ci" / "run", os.X_OK)
