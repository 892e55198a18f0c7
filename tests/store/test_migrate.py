"""Bringing a database up to date: in order, once, whole, with a copy, and never by guessing."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.domain import errors
from relay.store import migrate, opening, sqlite
from tests.store import making

SHIPPED = migrate.shipped()
NEXT = migrate.Migration(
    version=len(SHIPPED) + 1,
    name="more",
    text="-- a comment; with a semicolon\nCREATE TABLE more (id TEXT);\nINSERT INTO more VALUES (';x');\n",
)
BROKEN = dataclasses.replace(
    NEXT, name="broken", text="CREATE TABLE half (id TEXT);\nCREATE TABLE tasks (id TEXT);\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[sqlite.SqliteDatabase]:
    opened = await sqlite.SqliteDatabase.open(path, exclusive=False, create=True)
    yield opened
    await opened.aclose()


def copies(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.glob("*.before-*"))


async def test_a_new_database_gets_everything_and_no_copy(
    database: sqlite.SqliteDatabase, path: Path
) -> None:
    labels = await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW)
    assert labels == (*(migration.label for migration in SHIPPED), NEXT.label)
    assert await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW) == ()
    assert "more" in await database.tables()
    assert [row[0] for row in await database.read("SELECT id FROM more", {})] == [";x"]
    assert copies(path) == []


async def test_a_copy_is_made_first_and_never_over_an_older_one(
    database: sqlite.SqliteDatabase, path: Path
) -> None:
    await migrate.run(database, SHIPPED, now=making.NOW)
    older = path.with_name(f"relay.db.before-{NEXT.version:04}")
    older.write_text("precious")
    assert await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW) == (NEXT.label,)
    assert older.read_text() == "precious"
    assert copies(path) == [older.name, f"{older.name}.2"]
    copy = path.with_name(f"{older.name}.2")
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "tasks" in tables
    assert "more" not in tables


async def test_a_failing_migration_leaves_the_database_as_it_was(
    database: sqlite.SqliteDatabase, path: Path
) -> None:
    await migrate.run(database, SHIPPED, now=making.NOW)
    with pytest.raises(errors.StoreUnavailable, match="tasks already exists"):
        await migrate.run(database, [*SHIPPED, BROKEN], now=making.NOW)
    assert "half" not in await database.tables()
    assert await migrate.pending(database, SHIPPED) == []
    assert await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW) == (NEXT.label,)


async def test_a_newer_database_is_refused(database: sqlite.SqliteDatabase, path: Path) -> None:
    await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW)
    for migrating in (True, False):
        with pytest.raises(errors.SchemaTooNew, match="newer relay"):
            await opening.open_store(f"sqlite:///{path}", exclusive=False, migrate=migrating)


async def test_a_changed_migration_is_refused(database: sqlite.SqliteDatabase) -> None:
    await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW)
    changed = dataclasses.replace(NEXT, text=NEXT.text + " ")
    with pytest.raises(errors.SchemaChanged, match=NEXT.label):
        await migrate.run(database, [*SHIPPED, changed], now=making.NOW)


async def test_somebody_elses_database_is_left_alone(database: sqlite.SqliteDatabase, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (id TEXT)")
    connection.close()
    with pytest.raises(errors.StoreUnavailable, match="not relay's"):
        await migrate.run(database, SHIPPED, now=making.NOW)
    assert await database.tables() == {"theirs"}


async def test_migrating_needs_the_lock_only_when_there_is_something_to_do(
    database: sqlite.SqliteDatabase, path: Path
) -> None:
    await migrate.run(database, SHIPPED, now=making.NOW)
    serving = await opening.open_store(f"sqlite:///{path}", exclusive=True, migrate=True)
    try:
        assert await migrate.run(database, SHIPPED, now=making.NOW) == ()
        with pytest.raises(errors.StoreUnavailable, match="in use by another relay"):
            await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW)
    finally:
        await serving.aclose()
    assert await migrate.run(database, [*SHIPPED, NEXT], now=making.NOW) == (NEXT.label,)


def test_what_is_shipped_is_numbered_and_never_splits_a_statement() -> None:
    assert [migration.version for migration in SHIPPED] == list(range(1, len(SHIPPED) + 1))
    for migration in SHIPPED:
        assert all(sqlite3.complete_statement(f"{piece};") for piece in migration.statements())
