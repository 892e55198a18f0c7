"""Looking into a database from outside: what is found, and that nothing is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relay.domain import errors, model
from relay.store import destinations, opening, peeking


def stored(name: str, source: model.Source = model.Source.API) -> destinations.StoredDestination:
    return destinations.StoredDestination(
        name=name,
        source=source,
        owner="key_a" if source is model.Source.INLINE else None,
        options=model.DestinationOptions(),
        sealed="x",
        created_at=1.0,
        changed_at=1.0,
        used_at=1.0,
    )


def files(directory: Path) -> dict[str, bytes]:
    """Everything there, but for the index of a log, in which readers note where they read."""
    return {
        path.name: b"" if path.name.endswith("-shm") else path.read_bytes()
        for path in directory.glob("*.db*")
    }


def copy(directory: Path, to: Path) -> None:
    """As after a crash: the log was not taken up."""
    to.mkdir()
    for file in directory.glob("relay.db*"):
        shutil.copy(file, to)


async def test_names_are_found_beside_a_daemon_after_it_and_after_a_crash(tmp_path: Path) -> None:
    path, crashed = tmp_path / "relay.db", tmp_path / "crashed"
    store = await opening.open_store(f"sqlite:///{path}", exclusive=True, migrate=True)
    try:
        await store.save_destination(stored("made"))
        await store.save_destination(stored("inline_a", model.Source.INLINE))
        assert peeking.made_by_api(path) == {"made"}
        copy(tmp_path, crashed)
        await store.save_destination(stored("more"))  # whoever looked keeps nobody from writing
        assert peeking.made_by_api(path) == {"made", "more"}
    finally:
        await store.aclose()
    for directory, names in ((tmp_path, {"made", "more"}), (crashed, {"made"})):
        before = files(directory)
        assert peeking.made_by_api(directory / "relay.db") == names
        assert files(directory) == before


async def test_what_a_link_leads_to_is_read_with_its_log(tmp_path: Path) -> None:
    path, link = tmp_path / "disk" / "relay.db", tmp_path / "relay.db"
    path.parent.mkdir()
    path.touch()
    link.symlink_to(path)
    store = await opening.open_store(f"sqlite:///{link}", exclusive=True, migrate=True)
    try:
        await store.save_destination(stored("made"))
        assert peeking.made_by_api(link) == {"made"}
    finally:
        await store.aclose()
    assert peeking.made_by_api(link) == {"made"}


async def test_an_old_schema_has_none(tmp_path: Path) -> None:
    (tmp_path / "relay.db").touch()
    assert peeking.made_by_api(tmp_path / "relay.db") == frozenset()
    assert (tmp_path / "relay.db").stat().st_size == 0


def test_what_cannot_be_read_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreUnavailable, match=r"there is no database at .*relay\.db$"):
        peeking.made_by_api(tmp_path / "relay.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    with pytest.raises(errors.StoreUnavailable, match="cannot be read"):
        peeking.made_by_api(tmp_path / "other.db")
    (tmp_path / "torn.db").touch()
    (tmp_path / "torn.db-wal").write_bytes(b"x")
    with pytest.raises(errors.StoreUnavailable, match="was not closed"):
        peeking.made_by_api(tmp_path / "torn.db")
    assert {path.name for path in tmp_path.iterdir()} == {"other.db", "torn.db", "torn.db-wal"}
