"""Brings a database to the schema of this version: numbered steps, forward only.

A step is ``migrations/NNNN_name.sql``; once shipped it never changes, which its checksum proves.
Each is applied in one transaction together with the row that remembers it. Before the first one
that touches existing data the database keeps a copy. This module never goes back, and leaves a
database that is newer than itself alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from relay.domain import errors
from relay.store.sql import database
from relay.store.sql.queries import QUERIES

_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step. In ``text`` a semicolon at the end of a line ends a statement, and nothing else does."""

    version: int
    name: str
    text: str

    @property
    def label(self) -> str:
        """Number and name as in the file's name."""
        return f"{self.version:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def statements(self) -> list[str]:
        """The statements, without whole-line comments."""
        lines = (line for line in self.text.splitlines() if not line.lstrip().startswith("--"))
        pieces = re.split(r";[ \t]*$", "\n".join(lines), flags=re.MULTILINE)
        return [piece.strip() for piece in pieces if piece.strip()]


def shipped() -> tuple[Migration, ...]:
    """The steps of this version, in order, numbered from 1 without gaps."""
    found: list[Migration] = []
    for file in (resources.files("relay.store") / "migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            text = file.read_bytes().decode("utf-8")
            found.append(Migration(version=int(match[1]), name=match[2], text=text))
    found.sort(key=lambda migration: migration.version)
    assert [migration.version for migration in found] == list(range(1, len(found) + 1))
    return tuple(found)


async def pending(target: database.Database, migrations: Sequence[Migration]) -> list[Migration]:
    """Those that are not applied yet.

    Raises ``errors.SchemaTooNew`` if the database knows more than ``migrations`` does,
    ``errors.SchemaChanged`` if it was made by other text under the same number, and
    ``errors.StoreUnavailable`` if it is somebody else's database.
    """
    tables = await target.tables()
    if not tables:
        return list(migrations)
    if "migrations" not in tables:
        raise errors.StoreUnavailable(
            "this database holds tables that are not relay's; point store.url at another file"
        )
    applied = {row[0]: row for row in await target.read(QUERIES["list_migrations"], {})}
    known = {migration.version for migration in migrations}
    if newer := sorted(applied.keys() - known):
        raise errors.SchemaTooNew(
            f"the database was written by a newer relay (it holds migration {newer[-1]:04}, this version "
            f"ends at {max(known, default=0):04}); use that version, or restore the copy made before it"
        )
    for migration in migrations:
        row = applied.get(migration.version)
        if row is not None and row[2] != migration.checksum:
            raise errors.SchemaChanged(
                f"migration {migration.label} was applied to the database with other text than this "
                "version ships; reinstall relay, or restore a backup made by this version"
            )
    return [migration for migration in migrations if migration.version not in applied]


async def run(target: database.Database, migrations: Sequence[Migration], *, now: float) -> tuple[str, ...]:
    """Apply what is pending; the labels of what was applied.

    Raises what ``pending`` raises, and ``errors.StoreUnavailable`` while another relay uses the
    database. What was applied before an error stays applied.
    """
    if not await pending(target, migrations):
        return ()
    async with target.exclusively():
        # Another process may have done it while this one waited for the lock.
        todo = await pending(target, migrations)
        if todo and await target.tables():
            await target.preserve(f"before-{todo[0].version:04}")
        for migration in todo:
            await _apply(target, migration, now=now)
        return tuple(migration.label for migration in todo)


async def _apply(target: database.Database, migration: Migration, *, now: float) -> None:
    async def work(transaction: database.Transaction) -> None:
        await transaction.fetch(QUERIES["create_migrations"], {})
        for statement in migration.statements():
            await transaction.fetch(statement, {})
        applied = {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
            "applied_at": now,
        }
        await transaction.fetch(QUERIES["insert_migration"], applied)

    await target.transact(work)
