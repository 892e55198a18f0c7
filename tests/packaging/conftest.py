"""What the packaging tests share: the root, the metadata, a clean environment to run things in."""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def metadata(root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="session")
def bare_env() -> dict[str, str]:
    """The environment without what a developer's shell, or the make that runs these tests, put there."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RELAY_", "MAKE", "MFLAGS", "PYTEST", "PYTHON", "CREDENTIALS_"))
    }


@pytest.fixture(scope="session")
def relay_command(metadata: dict[str, Any]) -> list[str]:
    """What starts the console script, whichever way the package came onto the path."""
    module, _, function = metadata["project"]["scripts"]["relay"].partition(":")
    script = f"import sys, {module}; sys.argv[0] = 'relay'; sys.exit({module}.{function}())"
    return [sys.executable, "-P", "-c", script]
