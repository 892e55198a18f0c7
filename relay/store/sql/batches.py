"""Many rows in one statement, and what happens when one of them is bad."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import pydantic_core

from relay.domain import errors
from relay.store.sql import database
from relay.store.sql.queries import QUERIES

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL that is not itself text (an even number of backslashes before it)."""


def rows(objects: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """The parameter ``:rows`` of a set-based statement.

    Raises ``errors.StoreRejected`` for what JSON text cannot hold. NUL is refused here because
    one engine would cut the text there and the other would refuse it.
    """
    try:
        encoded = pydantic_core.to_json(list(objects))
    except ValueError as error:
        raise errors.StoreRejected(f"the database cannot hold this value: {error}") from error
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise errors.StoreRejected("the database cannot hold this value: text with a NUL character")
    return {"rows": encoded.decode()}


async def isolated(
    target: database.Database,
    items: Sequence[Item],
    store: Callable[[database.Transaction, Sequence[Item]], Awaitable[list[Answer]]],
) -> list[Answer | errors.StoreRejected]:
    """Store all items in one transaction; if one is bad, store all but the bad ones.

    ``store`` writes some items and answers for each in their order. The answer for a bad item is
    the error. It stays one transaction, so that ``errors.StoreUnavailable`` means that nothing
    was written.
    """
    try:
        return [*await target.transact(lambda transaction: store(transaction, items))]
    except errors.StoreRejected as error:
        if len(items) == 1:
            return [error]
    return await target.transact(lambda transaction: _one_by_one(transaction, items, store))


async def _one_by_one(
    transaction: database.Transaction,
    items: Sequence[Item],
    store: Callable[[database.Transaction, Sequence[Item]], Awaitable[list[Answer]]],
) -> list[Answer | errors.StoreRejected]:
    answers: list[Answer | errors.StoreRejected] = []
    for item in items:
        await transaction.fetch(QUERIES["savepoint"], {})
        try:
            answers.extend(await store(transaction, [item]))
        except errors.StoreRejected as error:
            await transaction.fetch(QUERIES["rollback_to_savepoint"], {})
            answers.append(error)
        await transaction.fetch(QUERIES["release_savepoint"], {})
    return answers
