"""SQLite as a ``Database``: one writing connection, a few reading ones, one file and its lock.

WAL, so that readers never wait for the writer; ``synchronous=FULL``, so that what was committed
survives a power cut. A read is one hop to its connection's thread, a transaction is too: its whole
``work`` runs over there, where a statement is an ordinary call. (A hop per statement cost a fifth of
the CPU of recording 32 rows, and nearly half of recording one.) That is also what makes cancelling
safe: a transaction that was begun is committed or rolled back, whether its caller still waits or not.
Transactions take turns on the writing connection, and those that wait for their turn are committed
together: a commit costs about as much for many as for one.

It knows no noun of relay. ``lockfile.py`` holds the lock, ``sql/`` writes the statements.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

import aiosqlite

from relay.domain import errors
from relay.store import lockfile
from relay.store.sql import database

T = TypeVar("T")

READERS: Final = 2
"""Reading connections: one may be busy with a long list while another answers the rest."""

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's write, such as ``keys create --local``; those take milliseconds."""

LOCK_TRIES: Final = 10
LOCK_PAUSE: Final = 0.1
"""Seconds between tries for the lock: a migration or a daemon that is just leaving is waited for."""

_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
    # The write-ahead log is cut back to this after a burst, bytes.
    "PRAGMA journal_size_limit = 67108864",
)

_TABLES: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
)

# At DEBUG it logs every statement with its parameters: bodies, hashes, metadata.
logging.getLogger("aiosqlite").setLevel(logging.INFO)


class _Transaction:
    """``database.Transaction`` on the writing connection, for its thread: it never really waits."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    async def fetch(self, statement: str, parameters: database.Parameters) -> Sequence[database.Row]:
        return self.run(statement, parameters)

    def run(self, statement: str, parameters: database.Parameters) -> Sequence[database.Row]:
        with _translated(self._path):
            return self._connection.execute(statement, parameters).fetchall()


class _Turn(Generic[T]):
    """One caller's transaction: waiting, then ``taken`` by whoever commits next, then ``ended``."""

    def __init__(self, work: Callable[[database.Transaction], Awaitable[T]]) -> None:
        self.work = work
        self.taken = False
        self.ended = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def end(self, result: T | None = None, *, error: BaseException | None = None) -> None:
        """Committed with that result, or undone with that error."""
        self._result, self._error = result, error
        self.ended = True

    def result(self) -> T:
        """What the work returned; raises what it failed with."""
        assert self.ended
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


class SqliteDatabase:
    """See ``database.Database``. Made by ``open``."""

    def __init__(
        self,
        path: Path,
        *,
        lock: lockfile.LockFile,
        writer: aiosqlite.Connection,
        readers: Sequence[aiosqlite.Connection],
    ) -> None:
        self._path = path
        self._lock = lock
        self._writer = writer
        self._readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._connections = (*readers, writer)
        self._writing = asyncio.Lock()
        self._waiting: list[_Turn[Any]] = []
        self._closed = False
        for reader in readers:
            self._readers.put_nowait(reader)

    @classmethod
    async def open(cls, path: Path, *, exclusive: bool, create: bool) -> SqliteDatabase:
        """Open the file at ``path``, made if ``create``.

        ``exclusive`` holds the lock until it is closed. Raises ``errors.StoreUnavailable`` with
        one clear line; nothing is then left open.
        """
        _require_place(path, create=create)
        lock = lockfile.LockFile(_lock_of(path))
        if exclusive:
            await _acquire(lock, path)
        connections: list[aiosqlite.Connection] = []
        try:
            _make_private(path)
            for _ in range(1 + READERS):
                connections.append(await _connect(path))
                await _prepare(connections[-1], path, writes=len(connections) == 1)
        except BaseException:
            for connection in connections:
                await connection.close()
            lock.release()
            raise
        return cls(path, lock=lock, writer=connections[0], readers=connections[1:])

    async def read(self, statement: str, parameters: database.Parameters) -> Sequence[database.Row]:
        """See ``database.Database.read``."""
        connection = await self._readers.get()
        try:
            self._require_open()
            return await _fetch(connection, statement, parameters, path=self._path)
        finally:
            self._readers.put_nowait(connection)

    async def transact(self, work: Callable[[database.Transaction], Awaitable[T]]) -> T:
        """See ``database.Database.transact``. What waits for its turn is committed together."""
        turn = _Turn(work)
        self._waiting.append(turn)
        # aiosqlite has no public way to run a function on its thread; its version is pinned for this.
        run = self._writer._execute
        try:
            async with self._writing:
                if not turn.taken:
                    self._require_open()
                    turns, self._waiting = self._waiting, []
                    for each in turns:
                        each.taken = True
                    await run(self._commit, self._writer._conn, turns)  # type: ignore[no-untyped-call]
                elif not turn.ended:
                    # Who took it along was cancelled. The thread goes on, and comes to this afterwards.
                    await run(_nothing)  # type: ignore[no-untyped-call]
        finally:
            if not turn.taken:
                self._waiting.remove(turn)
        return turn.result()

    def _commit(self, connection: sqlite3.Connection, turns: Sequence[_Turn[Any]]) -> None:
        """Run these in one transaction; should one fail, each in its own. On the connection's thread."""
        transaction = _Transaction(connection, self._path)
        try:
            transaction.run("BEGIN IMMEDIATE", {})
        except BaseException as error:
            for turn in turns:
                turn.end(error=error)
            return
        try:
            results = [_finish(turn.work(transaction)) for turn in turns]
            transaction.run("COMMIT", {})
        except BaseException as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            if len(turns) == 1:
                turns[0].end(error=error)
                return
            for turn in turns:
                self._commit(connection, [turn])
            return
        for turn, result in zip(turns, results, strict=True):
            turn.end(result)

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """See ``database.Database.exclusively``."""
        if self._lock.held:
            yield
            return
        await _acquire(self._lock, self._path)
        try:
            yield
        finally:
            self._lock.release()

    async def tables(self) -> frozenset[str]:
        """See ``database.Database.tables``."""
        return frozenset(row[0] for row in await self.read(_TABLES, {}))

    async def preserve(self, label: str) -> str:
        """See ``database.Database.preserve``: ``relay.db.before-0002``, never over an older copy."""
        target = str(_unused(self._path.with_name(f"{self._path.name}.{label}")))
        await self.backup(target)
        return target

    async def backup(self, path: str) -> None:
        """See ``database.Database.backup``. Readers and the writer go on meanwhile."""
        self._require_open()
        target = Path(path)
        _create(target, purpose="backup")
        try:
            connection = await _connect(self._path)
            try:
                await _fetch(connection, "VACUUM INTO :path", {"path": str(target)}, path=self._path)
            finally:
                await connection.close()
            # VACUUM INTO leaves the copy in the page cache.
            await asyncio.to_thread(_flush, target)
        except BaseException:
            _remove(target)
            raise

    async def aclose(self) -> None:
        """See ``database.Database.aclose``. Waits for the transaction and the reads under way."""
        if self._closed:
            return
        self._closed = True
        async with self._writing:
            readers = [await self._readers.get() for _ in self._connections[1:]]
            try:
                for connection in self._connections:
                    with suppress(sqlite3.Error):
                        await connection.close()
            finally:
                # Whoever still waits for a reader finds out that there is none.
                for reader in readers:
                    self._readers.put_nowait(reader)
                self._lock.release()

    def _require_open(self) -> None:
        if self._closed:
            raise errors.StoreUnavailable("the database is closed")


def _nothing() -> None:
    """What is done behind a transaction to know that it has ended."""


def _finish(work: Awaitable[T]) -> T:
    """Run to its end what awaits nothing but statements of its transaction."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("a transaction waited for something other than its own statements")


async def _fetch(
    connection: aiosqlite.Connection, statement: str, parameters: database.Parameters, *, path: Path
) -> Sequence[database.Row]:
    with _translated(path):
        return list(await connection.execute_fetchall(statement, parameters))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The driver's errors as the store's."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
        raise errors.StoreRejected(f"the database refused a value: {error}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        raise errors.StoreUnavailable(_explain(error, path)) from error


def _explain(error: sqlite3.DatabaseError, path: Path) -> str:
    """One line that says what to do. SQLite's own texts name tables, never values."""
    match error.sqlite_errorcode & 0xFF:
        case sqlite3.SQLITE_FULL:
            return f"no space is left for the database {path}; free some and try again"
        case sqlite3.SQLITE_READONLY:
            return f"the database {path} is not writable by this user"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"the database {path} is locked by another process"
        case sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database; point store.url at another file"
        case sqlite3.SQLITE_CORRUPT:
            return f"the database {path} is damaged; restore a backup"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return f"cannot open the database {path}; is its directory there and writable by this user?"
        case sqlite3.SQLITE_IOERR:
            return f"reading or writing the database {path} failed ({error.sqlite_errorname})"
        case _:
            return f"the database {path} failed: {error}"


async def _connect(path: Path) -> aiosqlite.Connection:
    try:
        return await aiosqlite.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, cached_statements=256
        )
    except sqlite3.DatabaseError as error:
        raise errors.StoreUnavailable(_explain(error, path)) from error


async def _prepare(connection: aiosqlite.Connection, path: Path, *, writes: bool) -> None:
    for pragma in _PRAGMAS:
        await _fetch(connection, pragma, {}, path=path)
    if not writes:
        await _fetch(connection, "PRAGMA query_only = ON", {}, path=path)
        return
    mode = await _fetch(connection, "PRAGMA journal_mode = WAL", {}, path=path)
    if mode[0][0] != "wal":
        raise errors.StoreUnavailable(
            f"the file system of {path} cannot keep a write-ahead log; put the database on a local disk"
        )


def _lock_of(path: Path) -> Path:
    """Beside the file itself, where SQLite keeps its log: a link to it is no second database."""
    file = Path(os.path.realpath(path))
    return file.with_name(f"{file.name}.lock")


async def _acquire(lock: lockfile.LockFile, path: Path) -> None:
    for _ in range(LOCK_TRIES):
        holder = lock.acquire()
        if holder is None:
            return
        await asyncio.sleep(LOCK_PAUSE)
    who = f"pid {holder}" if holder else "pid unknown"
    raise errors.StoreUnavailable(
        f"the database {path} is in use by another relay ({who}); stop that one first"
    )


def _require_place(path: Path, *, create: bool) -> None:
    try:
        directory, found = path.parent.is_dir(), path.exists()
        other = found and not path.is_file()
    except OSError as error:
        raise errors.StoreUnavailable(
            f"cannot open the database {path}: {os.strerror(error.errno or 0)}"
        ) from error
    if not directory:
        raise errors.StoreUnavailable(
            f"cannot open the database {path}: the directory {path.parent} does not exist"
        )
    if other:
        raise errors.StoreUnavailable(f"cannot open the database {path}: it is not a file")
    if not found and not create:
        raise errors.StoreUnavailable(f"there is no database at {path}; `relay migrate` makes it")


def _make_private(path: Path) -> None:
    """Make the file where it is missing, for its owner alone. SQLite's own files follow its mode."""
    if not path.exists():
        _create(path, purpose="database")


def _create(path: Path, *, purpose: str) -> None:
    """Make an empty file, for its owner alone, where there is none."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise errors.StoreUnavailable(
            f"cannot write the {purpose} {path}: it exists already; choose another path"
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise errors.StoreUnavailable(f"cannot write the {purpose} {path}: {reason}") from error


def _unused(path: Path) -> Path:
    """``path``, or ``path.2`` and so on where that is taken."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _flush(path: Path) -> None:
    """Bring a file and its directory entry to the disk."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
