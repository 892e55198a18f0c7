"""The requirements files: a hash for everything, shared pins, enough for pyproject, no addresses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILES = ["requirements.txt", "requirements-build.txt", "requirements-dev.txt"]
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org")


def entries(path: Path) -> list[str]:
    """The file's logical lines, without comments."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(path: Path) -> dict[str, str]:
    """Name to exact version."""
    found = [Requirement(entry.split(" --hash", 1)[0]) for entry in entries(path)]
    return {canonicalize_name(each.name): next(iter(each.specifier)).version for each in found}


@pytest.mark.parametrize("name", FILES)
def test_everything_is_pinned_and_hashed(root: Path, name: str) -> None:
    listed = entries(root / name)
    assert listed
    for entry in listed:
        assert not entry.startswith("-"), entry
        assert re.match(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==\S+", entry), entry[:80]
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?:\s|$)", entry), entry[:80]


def test_the_files_share_their_pins(root: Path) -> None:
    dev = pins(root / "requirements-dev.txt")
    for name in ("requirements.txt", "requirements-build.txt"):
        narrow = pins(root / name)
        assert narrow == {package: dev.get(package) for package in narrow}


@pytest.mark.parametrize(
    ("name", "extra"),
    [("requirements.txt", None), ("requirements-dev.txt", None), ("requirements-dev.txt", "dev")],
)
def test_the_pins_are_what_pyproject_asks_for(
    root: Path, metadata: dict[str, Any], name: str, extra: str | None
) -> None:
    project = metadata["project"]
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    pinned = pins(root / name)
    for text in asked:
        requirement = Requirement(text)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not in {name}: make requirements"
        assert requirement.specifier.contains(version), f"{text} but {name} has {version}: make requirements"


def test_the_build_requirements_are_those_of_pyproject(root: Path, metadata: dict[str, Any]) -> None:
    pinned = pins(root / "requirements-build.txt")
    assert "editables" in pinned, "an editable install needs it"
    for text in metadata["build-system"]["requires"]:
        assert Requirement(text).specifier.contains(pinned[canonicalize_name(Requirement(text).name)])


def files_of_the_repository(root: Path) -> Iterator[Path]:
    made_here = {"build", "dist", "__pycache__"}
    for top in root.iterdir():
        if top.name in made_here or (top.name.startswith(".") and top.is_dir() and top.name != ".ci"):
            continue
        inside = [top] if top.is_file() else top.rglob("*")
        yield from (path for path in inside if path.is_file() and not made_here & set(path.parts))


def test_no_lock_file_and_no_registry_address(root: Path) -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"}
    for path in files_of_the_repository(root):
        assert path.name not in locks, path
        assert not re.fullmatch(r"pylock(\..*)?\.toml", path.name), path
        if path != Path(__file__).resolve() and path.suffix in {".txt", ".toml", ".md", ".py", ".cfg", ""}:
            assert not REGISTRY.search(path.read_text("utf-8", errors="replace")), path
