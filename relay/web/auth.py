"""Who is asking, by the API key of a request, and what that key may do.

Reads keys from the store through a cache that lives for seconds, so that a key disabled anywhere
stops soon and one made beside the daemon works at once. Never writes while it answers: last uses are
collected, and ``Authenticator.flush`` writes them when the janitor calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from relay.domain import api_keys, errors, model
from relay.store import base as store_base
from relay.web import problems

CACHE_SECONDS: Final = 2.0
"""How long a key that was found good is believed without asking the database."""

CACHE_MAX: Final = 1024
"""Keys kept; when there are more, all are forgotten and read again."""

TEXT_MAX: Final = 512
"""Characters of a presented key that are looked at."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is."""

    key_id: str
    role: model.Role

    @property
    def is_admin(self) -> bool:
        """Whether this key may see and do everything."""
        return self.role is model.Role.ADMIN

    def scope(self) -> str | None:
        """The key id that lists are narrowed to; ``None`` for an admin, who sees all."""
        return None if self.is_admin else self.key_id


_ADMIN: Final = Caller(api_keys.ADMIN_ID, model.Role.ADMIN)


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    secret_hash: bytes
    until: float


class Authenticator:
    """Tells callers from strangers."""

    def __init__(
        self,
        store: store_base.Keys,
        *,
        admin_key: str | None,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """``admin_key`` is the configuration's own admin key, or ``None``."""
        self._store = store
        self._admin_hash = None if admin_key is None else api_keys.hash_text(admin_key)
        self._now = now
        self._monotonic = monotonic
        self._cache: dict[str, _Known] = {}
        self._used_at: dict[str, float] = {}

    async def caller(self, authorization: str | None) -> Caller:
        """Whose key the ``Authorization`` header holds. Raises ``problems.Problem`` 401."""
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise _stranger("Send an API key: the header 'Authorization: Bearer rk_…'.")
        if len(text) > TEXT_MAX:
            raise _unknown()
        presented = api_keys.hash_text(text)
        if self._admin_hash is not None and api_keys.same(presented, self._admin_hash):
            return _ADMIN
        key_id = api_keys.id_of(text)
        if key_id is None:
            raise _unknown()
        known = self._cache.get(key_id)
        if known is None or known.until <= self._monotonic():
            known = await self._read(key_id)
        if known is None or not api_keys.same(presented, known.secret_hash):
            raise _unknown()
        self._used_at[key_id] = self._now()
        return known.caller

    def forget(self, key_id: str) -> None:
        """Read that key anew at its next use: it was changed."""
        self._cache.pop(key_id, None)

    async def flush(self) -> None:
        """Write the last uses collected since the last call. Raises ``errors.StoreUnavailable``."""
        used_at, self._used_at = self._used_at, {}
        if not used_at:
            return
        try:
            await self._store.touch_keys(used_at)
        except errors.StoreError:
            self._used_at = used_at | self._used_at
            raise

    async def _read(self, key_id: str) -> _Known | None:
        """The key as the database has it; only enabled keys are found, and only those are cached."""
        self._cache.pop(key_id, None)
        asked_at = self._monotonic()
        found = await self._store.key(key_id)
        if found is None or not found[0].enabled:
            return None
        key, secret_hash = found
        known = _Known(Caller(key.id, key.role), secret_hash, asked_at + CACHE_SECONDS)
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()
        self._cache[key_id] = known
        return known


def require_admin(caller: Caller) -> None:
    """Raises ``problems.Problem`` 403 unless ``caller`` is an admin."""
    if not caller.is_admin:
        raise problems.Problem(403, "This takes a key with the role admin.")


def _unknown() -> problems.Problem:
    return _stranger("This API key is not known here, or it is disabled.", error="invalid_token")


def _stranger(detail: str, *, error: str | None = None) -> problems.Problem:
    challenge = 'Bearer realm="relay"' + (f', error="{error}"' if error else "")
    return problems.Problem(401, detail, headers={"WWW-Authenticate": challenge})


AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)
"""Where the application keeps it; the daemon's janitor calls its ``flush``."""
