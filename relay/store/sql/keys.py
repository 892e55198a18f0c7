"""API keys. Only hashes of secrets come here, and they are never part of a ``model.Key``."""

from __future__ import annotations

from collections.abc import Mapping

from relay.domain import model
from relay.store.sql import batches, rows
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Keys(Part):
    """``base.Keys`` on a ``Database``."""

    async def create_key(self, key: model.Key, *, secret_hash: bytes) -> None:
        """See ``base.Keys.create_key``."""
        parameters = {
            "id": key.id,
            "name": key.name,
            "role": key.role,
            "enabled": int(key.enabled),
            "secret_hash": secret_hash.hex(),
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
        }
        await self._write(QUERIES["insert_key"], parameters)

    async def key(self, key_id: str) -> tuple[model.Key, bytes] | None:
        """See ``base.Keys.key``."""
        found = await self._database.read(QUERIES["select_key"], {"id": key_id})
        return (rows.key(found[0]), bytes.fromhex(found[0][6])) if found else None

    async def keys(self) -> list[model.Key]:
        """See ``base.Keys.keys``."""
        return [rows.key(row) for row in await self._database.read(QUERIES["list_keys"], {})]

    async def enable_key(self, key_id: str, *, enabled: bool) -> model.Key | None:
        """See ``base.Keys.enable_key``."""
        found = await self._write(QUERIES["enable_key"], {"id": key_id, "enabled": int(enabled)})
        return rows.key(found[0]) if found else None

    async def delete_key(self, key_id: str) -> bool:
        """See ``base.Keys.delete_key``."""
        return bool(await self._write(QUERIES["delete_key"], {"id": key_id}))

    async def touch_keys(self, used_at: Mapping[str, float]) -> None:
        """See ``base.Keys.touch_keys``."""
        if used_at:
            touched = batches.rows({"id": key_id, "used_at": at} for key_id, at in used_at.items())
            await self._write(QUERIES["touch_keys"], touched)
