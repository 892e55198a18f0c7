"""Randomness by the handful: a system call for every id costs more than the rest of making it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POOL_BYTES: Final = 4096
"""Bytes fetched at once: some hundred ids."""


class Pool:
    """``pool(n)`` gives ``n`` bytes of ``source``, each of them once. Not for several threads."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._bytes = b""
        self._used = 0

    def __call__(self, size: int) -> bytes:
        if size > POOL_BYTES:
            return self._source(size)
        if self._used + size > len(self._bytes):
            self._bytes, self._used = self._source(POOL_BYTES), 0
        taken = self._bytes[self._used : self._used + size]
        self._used += size
        return taken
