"""SQLite: its file, its lock, its errors, and what is left after the worst."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.domain import errors
from relay.store import base, migrate, opening, sqlite
from relay.store.sql import SqlStore
from relay.store.sql import database as sql_database
from tests.store import making

ROOT = Path(__file__).parents[2]
"""Where the scripts below find the packages they import."""

HOLD = """
import asyncio, sys
from relay.store import opening

async def main():
    store = await opening.open_store(sys.argv[1], exclusive=True, migrate=True)
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.aclose()

asyncio.run(main())
"""

WRITE = """
import asyncio, dataclasses, sys
from relay.store import opening
from tests.store import making

async def main():
    store = await opening.open_store(sys.argv[1], exclusive=True, migrate=True)
    number = 0
    while True:
        names = [f"t-{number + step}" for step in range(8)]
        number += len(names)
        writes = [
            dataclasses.replace(
                making.new(name), events=[making.event("a")], deliveries=[making.delivery(name)]
            )
            for name in names
        ]
        await store.record(writes)
        print(*names, flush=True)

asyncio.run(main())
"""

FULL = """
import asyncio, dataclasses, resource, sys
from relay.domain import errors
from relay.store import opening
from tests.store import making

async def main():
    store = await opening.open_store(sys.argv[1], exclusive=True, migrate=True)
    await store.record([making.new("before")])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored = 0
    try:
        while True:
            await store.record([making.new(f"t-{stored}", prompt="x" * 20_000)])
            stored += 1
    except errors.StoreUnavailable as error:
        print("refused:", error)
    assert await store.task(making.UPSTREAM, "before") is not None
    assert await store.task(making.UPSTREAM, f"t-{stored}") is None
    try:
        await store.record([making.new(f"t-{stored}", prompt="x" * 20_000)])
    except errors.StoreUnavailable:
        print("refused again")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.check()
    assert (await store.record([making.new(f"t-{stored}", prompt="x" * 20_000)]))[0] is not None
    assert len(await store.running(after=None, limit=1000)) == stored + 2
    await store.aclose()
    print("recovered")

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/relay.db"


@contextlib.contextmanager
def running(script: str, url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def opened(url: str, *, exclusive: bool = True, migrate: bool = True) -> SqlStore:
    return await opening.open_store(url, exclusive=exclusive, migrate=migrate)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def modes_in(directory: Path) -> dict[str, int]:
    return {found.name: found.stat().st_mode & 0o777 for found in directory.iterdir()}


async def test_a_second_daemon_is_refused_and_told_the_pid(url: str) -> None:
    with running(HOLD, url) as holder:
        assert line(holder) == "held"
        with pytest.raises(errors.StoreUnavailable, match=rf"in use by another relay \(pid {holder.pid}\)"):
            await opened(url)
        beside = await opened(url, exclusive=False)
        await beside.record([making.new("t")])
        await beside.check()
        await beside.aclose()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        after = await opened(url)
        assert len(await after.running(after=None, limit=10)) == 1
        await after.aclose()


async def test_a_second_daemon_is_refused_where_a_link_leads_to_the_same_file(
    url: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "other.db"
    link.symlink_to(opening.sqlite_path(url))
    with running(HOLD, url) as holder:
        assert line(holder) == "held"
        with pytest.raises(errors.StoreUnavailable, match=rf"in use by another relay \(pid {holder.pid}\)"):
            await (await opened(f"sqlite:///{link}")).aclose()
    assert [found.name for found in elsewhere.iterdir()] == ["other.db"]


async def test_a_daemon_that_is_just_leaving_is_waited_for(url: str) -> None:
    first = await opened(url)
    waiting = asyncio.ensure_future(opened(url))
    await asyncio.sleep(0)
    await first.aclose()
    second = await waiting
    await second.aclose()


async def test_kill_in_the_middle_of_writing_leaves_whole_facts(url: str, tmp_path: Path) -> None:
    with running(WRITE, url) as writer:
        told = [name for _ in range(25) for name in line(writer).split()]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert writer.stdout is not None
        told += writer.stdout.read().split()
    store = await opened(url)
    try:
        views = (await store.tasks(base.TaskFilter(), before=None, limit=100_000)).rows
        found = {view.task.task_id for view in views}
        assert found >= set(told)
        assert len(found) % 8 == 0
        assert all(view.events_seen == 1 and view.registrations for view in views)
        owed = (await store.deliveries(base.DeliveryFilter(), before=None, limit=100_000)).rows
        assert {delivery.task_id for delivery in owed} == found
    finally:
        await store.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_full_disk_refuses_and_is_recovered_from(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("refused: ")
    assert "relay.db" in said[0]
    assert said[1:] == ["refused again", "recovered"]


async def test_no_space_left_says_so(url: str, tmp_path: Path) -> None:
    database = await sqlite.SqliteDatabase.open(tmp_path / "small.db", exclusive=True, create=True)
    try:
        await database.transact(lambda transaction: transaction.fetch("CREATE TABLE t (x TEXT)", {}))
        await database.transact(lambda transaction: transaction.fetch("PRAGMA max_page_count = 3", {}))
        with pytest.raises(errors.StoreUnavailable, match="no space is left"):
            await database.transact(
                lambda transaction: transaction.fetch("INSERT INTO t VALUES (:x)", {"x": "x" * 100_000})
            )
        await database.transact(lambda transaction: transaction.fetch("PRAGMA max_page_count = 1000", {}))
        await database.transact(
            lambda transaction: transaction.fetch("INSERT INTO t VALUES (:x)", {"x": "x" * 100_000})
        )
        assert await database.read("SELECT COUNT(*) FROM t", {}) == [(1,)]
    finally:
        await database.aclose()


async def test_a_transaction_that_waits_for_something_else_is_undone(tmp_path: Path) -> None:
    async def work(transaction: sql_database.Transaction) -> None:
        await transaction.fetch("CREATE TABLE t (x TEXT)", {})
        await asyncio.sleep(0)

    database = await sqlite.SqliteDatabase.open(tmp_path / "relay.db", exclusive=False, create=True)
    try:
        with pytest.raises(RuntimeError, match="waited for something other"):
            await database.transact(work)
        assert await database.tables() == frozenset()
    finally:
        await database.aclose()


async def test_files_are_for_their_owner_alone(url: str, tmp_path: Path) -> None:
    store = await opened(url)
    await store.record([making.new("t")])
    await store.backup(str(tmp_path / "copy.db"))
    modes = modes_in(tmp_path)
    await store.aclose()
    assert modes == dict.fromkeys(
        ["relay.db", "relay.db-wal", "relay.db-shm", "relay.db.lock", "copy.db"], 0o600
    )


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("missing/relay.db", "the directory .*/missing does not exist"),
        ("file/relay.db", "the directory .*/file does not exist"),
        (".", "it is not a file"),
        ("garbage", "is not a SQLite database"),
        ("/proc/relay.db", "cannot (open|write) the (lock file|database) /proc/relay.db"),
        ("x" * 300, "cannot open the database .*: File name too long"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_one_clear_line(
    tmp_path: Path, place: str, said: str, exclusive: bool
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "garbage").write_bytes(b"\x01garbage " * 1000)
    threads = set(threading.enumerate())
    with pytest.raises(errors.StoreUnavailable, match=said) as raised:
        await opened(f"sqlite:///{tmp_path / place}", exclusive=exclusive)
    assert "\n" not in str(raised.value)
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    with pytest.raises(errors.StoreUnavailable):
        await opened(f"sqlite:///{tmp_path / place}", exclusive=exclusive)


async def test_without_migrating_a_missing_database_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(errors.StoreUnavailable, match="there is no database at"):
        await opened(url, exclusive=False, migrate=False)
    assert not (tmp_path / "relay.db").exists()
    store = await opened(url)
    assert store.applied == tuple(migration.label for migration in migrate.shipped())
    beside = await opened(url, exclusive=False, migrate=False)
    assert beside.applied == ()
    await beside.aclose()
    await store.aclose()


async def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_bytes(b"\x01garbage " * 1000)
    with pytest.raises(errors.StoreUnavailable):
        await opened(f"sqlite:///{path}")
    path.unlink()
    store = await opened(f"sqlite:///{path}")
    await store.aclose()


async def test_damage_found_later_is_named(url: str, tmp_path: Path) -> None:
    store = await opened(url)
    await store.record([making.new(f"t-{number}", prompt="x" * 2000) for number in range(50)])
    await store.aclose()
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    store = await opened(url)
    with pytest.raises(errors.StoreUnavailable, match=r"is damaged; restore a backup"):
        await store.running(after=None, limit=100)
    await store.aclose()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://relay:hunter2@db/relay", "PostgreSQL is not supported"),
        ("mysql://relay:hunter2@db/relay", "must be sqlite:///"),
        ("relay.db", "must be sqlite:///"),
        ("sqlite://relay.db", "must be sqlite:///"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("", "must be sqlite:///"),
    ],
)
async def test_an_unusable_url_is_a_configuration_error(given: str, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said) as raised:
        await opened(given)
    assert "hunter2" not in str(raised.value)


def test_a_relative_path_is_relative_to_the_working_directory() -> None:
    assert opening.sqlite_path("sqlite:///data/relay.db") == Path("data/relay.db")
    assert opening.sqlite_path("sqlite:////var/lib/relay.db") == Path("/var/lib/relay.db")


async def test_a_reader_waits_for_no_writer_and_closing_waits_for_both(url: str) -> None:
    store = await opened(url)
    writes = [asyncio.ensure_future(store.record([making.new(f"t-{number}")])) for number in range(20)]
    reads = [asyncio.ensure_future(store.keys()) for _ in range(20)]
    await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    await store.aclose()
    results = await asyncio.gather(*writes, *reads, return_exceptions=True)
    assert all(isinstance(result, (list, errors.StoreUnavailable)) for result in results)
    stored = sum(isinstance(result, list) for result in results[:20])
    again = await opened(url)
    assert len(await again.running(after=None, limit=100)) == stored
    await again.aclose()


async def test_a_backup_that_fails_leaves_nothing(url: str, tmp_path: Path) -> None:
    store = await opened(url)
    with pytest.raises(errors.StoreUnavailable, match="No such file or directory"):
        await store.backup(str(tmp_path / "missing" / "copy.db"))
    with pytest.raises(errors.StoreUnavailable, match="exists already"):
        await store.backup(str(tmp_path / "relay.db"))
    await store.aclose()
    assert sorted(modes_in(tmp_path)) == ["relay.db", "relay.db.lock"]
