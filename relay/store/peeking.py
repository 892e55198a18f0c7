"""Looks into a database from outside: nothing is made, migrated, written or waited for.

For those who check a configuration, beside a running daemon or without one. Everybody else opens the
store (``opening.py``).
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from relay.domain import errors, model
from relay.store.sql.queries import QUERIES

PATIENCE: Final = 1.0
"""Seconds for a lock; readers of a write-ahead log wait for none, unless it is being mended."""


def made_by_api(path: Path) -> frozenset[str]:
    """The names of the destinations that were made by API. Those that URLs made are not among them.

    Raises ``errors.StoreUnavailable`` where there is no database, or none that can be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(_uri(path), uri=True, timeout=PATIENCE)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if ("destinations",) not in tables.fetchall():
                return frozenset()  # it is older than destinations by API
            rows = connection.execute(QUERIES["list_destination_names"]).fetchall()
    except (sqlite3.Error, OSError) as error:
        # SQLite's own texts name tables, never values.
        said = error.strerror if isinstance(error, OSError) else error
        raise errors.StoreUnavailable(f"the database {path} cannot be read ({said})") from None
    return frozenset(name for name, source in rows if source == model.Source.API)


def _uri(path: Path) -> str:
    """How SQLite opens it without making a file beside it, which it does to read a write-ahead log."""
    if not path.is_file():
        raise errors.StoreUnavailable(f"there is no database at {path}")
    path = path.resolve()  # as SQLite does: the log lies beside the file, not beside a link to it
    uri = f"{path.as_uri()}?mode=ro"
    log, index = (path.with_name(f"{path.name}-{suffix}") for suffix in ("wal", "shm"))
    if not log.is_file() or not log.stat().st_size:
        return f"{uri}&immutable=1"  # nobody has it open: all of it is in the one file
    if not index.is_file():
        raise errors.StoreUnavailable(f"the database {path} was not closed; relay mends that when it starts")
    return uri
