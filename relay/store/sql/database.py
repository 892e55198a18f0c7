"""What ``SqlStore`` needs of an engine: ``Database`` and, inside it, ``Transaction``.

Implementations are thin: they run statements, and turn the driver's errors into
``errors.StoreUnavailable`` (the database cannot) and ``errors.StoreRejected`` (it will not take
this value). They know nothing of relay's nouns. SQLite's is ``relay/store/sqlite.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Row = Sequence[Any]
"""One row, values in the order of the statement's columns."""

Parameters = Mapping[str, object]
"""Values of ``:name`` parameters: text, integers, floats or ``None``."""


class Transaction(Protocol):
    """An open transaction. Good only inside the function it was given to."""

    async def fetch(self, statement: str, parameters: Parameters) -> Sequence[Row]:
        """Run one statement and answer its rows (none for a write without ``RETURNING``)."""
        ...


class Database(Protocol):
    """One database of one engine."""

    async def read(self, statement: str, parameters: Parameters) -> Sequence[Row]:
        """Run one statement outside any transaction; it sees what was committed before it began."""
        ...

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run ``work`` in one write transaction: committed when it returns, else undone whole.

        ``work`` awaits nothing but the transaction's statements and touches nothing that belongs
        to the event loop: an engine may run it on another thread. An engine may also commit it
        together with others, and run it again from the start when one of those has failed. A
        cancelled caller leaves no half of it behind.
        """
        ...

    def exclusively(self) -> AbstractAsyncContextManager[None]:
        """Hold off every other process that would write the schema or serve, for the duration."""
        ...

    async def tables(self) -> frozenset[str]:
        """Names of the tables there are."""
        ...

    async def preserve(self, label: str) -> str | None:
        """Keep a copy of everything under ``label``; where it is, or ``None`` if the engine cannot."""
        ...

    async def backup(self, path: str) -> None:
        """Write a consistent copy to ``path``, which must not exist."""
        ...

    async def aclose(self) -> None:
        """Close connections and locks. Idempotent."""
        ...
