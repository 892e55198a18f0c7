"""What the nouns' parts of ``SqlStore`` share: the database they run on."""

from __future__ import annotations

from collections.abc import Sequence

from relay.store.sql import database


class Part:
    """One noun's methods on a ``Database``."""

    def __init__(self, target: database.Database) -> None:
        self._database = target

    async def _write(self, statement: str, parameters: database.Parameters) -> Sequence[database.Row]:
        """Run one statement in a transaction of its own."""
        return await self._database.transact(lambda transaction: transaction.fetch(statement, parameters))
