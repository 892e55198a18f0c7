"""Transactions that wait for their turn are committed together, and answer as if each were alone."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from relay.domain import errors
from relay.store import sqlite
from relay.store.sql import database as sql_database

Work = Callable[[sql_database.Transaction], Awaitable[str | None]]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[sqlite.SqliteDatabase]:
    opened = await sqlite.SqliteDatabase.open(tmp_path / "relay.db", exclusive=False, create=True)
    await opened.transact(lambda transaction: transaction.fetch("CREATE TABLE t (x TEXT NOT NULL)", {}))
    yield opened
    await opened.aclose()


def insert(text: str | None, *, gate: threading.Event | None = None) -> Work:
    """Work that adds one row, once ``gate`` is open; it answers its text."""

    async def work(transaction: sql_database.Transaction) -> str | None:
        if gate is not None:
            assert gate.wait(10)
        await transaction.fetch("INSERT INTO t VALUES (:x)", {"x": text})
        return text

    return work


async def begun(database: sqlite.SqliteDatabase, *works: Work) -> list[asyncio.Future[str | None]]:
    """Callers that have handed in their work, in this order."""
    callers = [asyncio.ensure_future(database.transact(work)) for work in works]
    await asyncio.sleep(0)
    return callers


async def stored(database: sqlite.SqliteDatabase) -> list[str]:
    return [row[0] for row in await database.read("SELECT x FROM t ORDER BY rowid", {})]


async def test_what_waits_for_its_turn_is_one_commit(database: sqlite.SqliteDatabase) -> None:
    statements: list[str] = []
    await database._writer.set_trace_callback(statements.append)
    gate = threading.Event()
    callers = await begun(database, insert("first", gate=gate), *(insert(f"{n}") for n in range(20)))
    gate.set()
    answers = await asyncio.gather(*callers)
    assert answers == ["first", *(f"{n}" for n in range(20))] == await stored(database)
    assert statements.count("COMMIT") == 2


async def test_one_that_fails_takes_no_other_with_it(database: sqlite.SqliteDatabase) -> None:
    gate = threading.Event()
    callers = await begun(
        database, insert("first", gate=gate), insert("before"), insert(None), insert("after")
    )
    gate.set()
    first, before, bad, after = await asyncio.gather(*callers, return_exceptions=True)
    assert [first, before, after] == ["first", "before", "after"] == await stored(database)
    assert isinstance(bad, errors.StoreRejected)


async def test_who_gives_up_waiting_has_written_nothing(database: sqlite.SqliteDatabase) -> None:
    gate = threading.Event()
    callers = await begun(database, insert("first", gate=gate), insert("given up"), insert("last"))
    callers[1].cancel()
    gate.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await stored(database) == ["first", "last"]


async def test_who_gives_up_while_it_writes_leaves_the_others_their_answers(
    database: sqlite.SqliteDatabase,
) -> None:
    gates = [threading.Event(), threading.Event()]
    running = threading.Event()

    async def leading(transaction: sql_database.Transaction) -> str | None:
        running.set()
        return await insert("leading", gate=gates[1])(transaction)

    callers = await begun(database, insert("first", gate=gates[0]), leading, insert("along"))
    gates[0].set()
    assert await asyncio.to_thread(running.wait, 10)
    callers[1].cancel()
    late = await begun(database, insert("late"))
    gates[1].set()
    answers = await asyncio.gather(*callers, *late, return_exceptions=True)
    assert [answers[0], *answers[2:]] == ["first", "along", "late"]
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await stored(database) == ["first", "leading", "along", "late"]


async def test_all_that_waited_hear_that_the_database_is_locked(
    database: sqlite.SqliteDatabase, tmp_path: Path
) -> None:
    await database._writer.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        callers = await begun(database, *(insert(f"{n}") for n in range(5)))
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(answer, errors.StoreUnavailable) for answer in answers)
        other.execute("ROLLBACK")
    assert await database.transact(insert("again")) == "again"
    assert await stored(database) == ["again"]
