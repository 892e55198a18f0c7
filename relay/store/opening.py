"""Opens the store that ``store.url`` names. The one place that knows which engines there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.domain import errors
from relay.store import migrate as migrations
from relay.store import sqlite
from relay.store.sql import SqlStore

_SQLITE: Final = "sqlite:///"


def sqlite_path(url: str) -> Path:
    """The file that ``url`` names: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises ``errors.ConfigurationError`` for anything else. The message never repeats the URL,
    which may hold a password.
    """
    scheme, separator, _ = url.partition(":")
    if separator and scheme in ("postgresql", "postgres"):
        raise errors.ConfigurationError(
            "store.url: PostgreSQL is not supported by this version; use sqlite:///relay.db"
        )
    if not url.startswith(_SQLITE):
        raise errors.ConfigurationError(
            "store.url: must be sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    name = url.removeprefix(_SQLITE)
    if name in ("", ":memory:") or "\x00" in name:
        raise errors.ConfigurationError("store.url: must name a file, such as sqlite:///relay.db")
    return Path(name)


async def open_store(
    url: str, *, exclusive: bool, migrate: bool, clock: Callable[[], float] = time.time
) -> SqlStore:
    """Open the store, ready for use.

    ``exclusive`` keeps every other daemon off until it is closed. ``migrate`` makes the database
    where it is missing and applies what is pending (alone, for that moment); without it a missing
    database is an error. Raises ``errors.ConfigurationError`` for an unusable ``url`` and
    ``errors.StoreError`` with one clear line when it cannot be opened; nothing is then left open.
    """
    database = await sqlite.SqliteDatabase.open(sqlite_path(url), exclusive=exclusive, create=migrate)
    try:
        shipped = migrations.shipped()
        if migrate:
            applied = await migrations.run(database, shipped, now=clock())
        else:
            applied = ()
            await migrations.pending(database, shipped)
    except BaseException:
        await database.aclose()
        raise
    return SqlStore(database, applied=applied)
