"""Stored destinations, their URLs and secrets sealed. The one place where sealed and open ones meet.

The canary is sealed beside them: it shows at the start whether the keys are still the right ones, also
where no destination is left.
"""

from __future__ import annotations

import asyncio

import structlog

from relay import sealing
from relay.engine import definitions
from relay.store import base as store_base

log = structlog.get_logger(__name__)


class Vault:
    """Reads and saves; who calls takes turns."""

    def __init__(self, store: store_base.Store, sealer: sealing.Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._canary_kept = False

    async def read(self) -> list[definitions.Record]:
        """All that are stored, not opened yet. What was sealed with an older key is sealed anew.

        Raises ``errors.SecretUnreadable`` when no key opens it, and ``errors.StoreError``.
        """
        canary, rows = await self._store.canary(), await self._store.destinations()
        self._canary_kept = canary is not None
        if canary is None and not rows:
            return []
        if canary is not None:
            self._sealer.open(canary)
        known = {row.name: definitions.from_store(row, self._sealer) for row in rows}
        old = [row.name for row in rows if not self._sealer.current(row.sealed)]
        if old or canary is None or not self._sealer.current(canary):
            anew = {name: definitions.to_store(known[name], self._sealer).sealed for name in old}
            await self._store.reseal(canary=self._sealer.seal(sealing.CANARY), sealed=anew)
            self._canary_kept = True
            log.info("encrypted anew under the newest secret_key", destinations=len(anew))
        return [*known.values()]

    async def save(self, known: definitions.Record) -> None:
        """Store it. Raises ``errors.StoreError``, also when a key must be made and cannot be kept."""
        # The first one imports a library and may have to bring a key to the disk.
        row = await asyncio.to_thread(definitions.to_store, known, self._sealer)
        if not self._canary_kept:
            await self._store.reseal(canary=self._sealer.seal(sealing.CANARY), sealed={})
            self._canary_kept = True
        await self._store.save_destination(row)
