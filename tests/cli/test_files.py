"""The commands that touch the database themselves: ``keys create --local``, ``migrate``, ``backup``."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from relay.domain import model
from relay.store import opening
from tests.cli.conftest import Runner


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def keys_in(file: Path) -> list[model.Key]:
    """The keys that a database holds."""
    store = await opening.open_store(f"sqlite:///{file}", exclusive=False, migrate=False)
    try:
        return await store.keys()
    finally:
        await store.aclose()


async def test_a_local_key_makes_the_database(relay: Runner, tmp_path: Path) -> None:
    ended = await relay("keys", "create", "ops", "--role", "admin", "--local", "--json")
    assert (ended.code, ended.err) == (0, "")
    made = json.loads(ended.out)
    assert set(made) == {"key", "id"}
    assert made["key"].startswith("rk_")
    assert made["id"].startswith("key_")
    file = tmp_path / "relay.db"
    assert file.stat().st_mode & 0o077 == 0
    assert made["key"].encode() not in file.read_bytes()
    [key] = await keys_in(file)
    assert (key.id, key.name, key.role, key.enabled) == (made["id"], "ops", model.Role.ADMIN, True)


async def test_for_people_the_key_is_alone_on_stdout(relay: Runner) -> None:
    ended = await relay("keys", "create", "ops", "--local")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert ended.out.startswith("rk_")
    assert ended.out.strip() not in ended.err


async def test_another_user_is_sent_to_the_owner(
    relay: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    uid = os.geteuid()
    owner = pwd.getpwuid(uid).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    (tmp_path / "re lay.toml").write_text("[store]\nurl = 'sqlite:///x.db'")
    ended = await relay(
        "keys", "create", "two words", "--role", "admin", "--local", "--config", "re lay.toml"
    )
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    command = f"sudo -u {owner} relay keys create 'two words' --role admin --local"
    assert f"{command} --config '{tmp_path}/re lay.toml'" in ended.err
    for refused in (["migrate"], ["backup", "copy.db"]):
        ended = await relay(*refused)
        assert ended.code == 1
        assert f"sudo -u {owner} relay {' '.join(refused)}" in ended.err
    assert names_in(tmp_path) == ["re lay.toml"]


@pytest.mark.parametrize(
    ("url", "code", "part"),
    [
        ("sqlite:////nowhere/at/all/relay.db", 1, "does not exist"),
        ("sqlite:///.", 1, ""),
        ("mysql://user:hunter2@host/x", 2, "store.url"),
    ],
)
async def test_a_database_that_cannot_be_had_is_one_line(
    relay: Runner, url: str, code: int, part: str
) -> None:
    for command in (["keys", "create", "x", "--local"], ["migrate"], ["backup", "b.db"]):
        ended = await relay(*command, RELAY_STORE__URL=url)
        assert ended.code == code
        assert ended.err.startswith("error: ")
        assert len(ended.err.splitlines()) == 1
        assert part in ended.err
        assert "hunter2" not in ended.err


async def test_a_file_that_is_no_database_is_one_line(relay: Runner, tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"not a database, but long enough to be looked at " * 100)
    ended = await relay("migrate")
    assert ended.code == 1
    assert "relay.db is not a SQLite database" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x1bb"])
async def test_a_bad_name_is_wrong_usage(relay: Runner, tmp_path: Path, name: str) -> None:
    ended = await relay("keys", "create", name, "--local")
    assert ended.code == 2
    assert not (tmp_path / "relay.db").exists()


async def test_config_without_local_is_wrong_usage(relay: Runner) -> None:
    ended = await relay("keys", "create", "x", "--config", "relay.toml")
    assert ended.code == 2
    assert "--local" in ended.err


async def test_migrate_says_what_it_did(relay: Runner, tmp_path: Path) -> None:
    first = await relay("migrate")
    assert first.code == 0
    assert first.out.startswith("applied 0001")
    assert first.out.endswith("the database is up to date\n")
    again = await relay("migrate")
    assert again.out == "the database is up to date\n"


async def test_a_database_of_a_newer_relay_is_refused(relay: Runner, tmp_path: Path) -> None:
    await relay("migrate")
    with closing(sqlite3.connect(tmp_path / "relay.db")) as database:
        [table] = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if "migration" in name
        ]  # fmt: skip
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        row = list(database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone())
        row[0] = 9999
        database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", row)
        database.commit()
    ended = await relay("migrate")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1


async def test_a_backup_is_a_whole_database(relay: Runner, tmp_path: Path) -> None:
    key = json.loads((await relay("keys", "create", "ops", "--local", "--json")).out)
    ended = await relay("backup", "copy.db")
    assert ended.code == 0
    assert ended.out.startswith("copy.db  ")
    assert [copied.id for copied in await keys_in(tmp_path / "copy.db")] == [key["id"]]
    again = await relay("backup", "copy.db")
    assert again.code == 1
    assert "exists" in again.err


async def test_a_backup_of_nothing_is_one_line(relay: Runner, tmp_path: Path) -> None:
    ended = await relay("backup", "copy.db")
    assert ended.code == 1
    assert "there is no database" in ended.err
    assert names_in(tmp_path) == []
