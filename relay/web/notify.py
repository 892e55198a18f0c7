"""``notify``: from the names and URLs that a caller gives to names of destinations.

A URL becomes an inline destination of the caller's key, the same one for the same URL and secret. That
costs a row and opens a way out of this machine, so the operator has to permit it.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.domain import errors
from relay.web import endpoints
from relay.web.schemas import registrations as schemas

NOT_PERMITTED = (
    "URLs are not taken here: name a destination (GET /api/v1/destinations lists them), or have the "
    "operator set security.allow_inline_destinations"
)


async def names(
    call: endpoints.Call, notify: Sequence[str | schemas.InlineDestination] | None
) -> tuple[str, ...]:
    """The names of the destinations meant by ``notify``, in its order.

    Raises ``errors.RequestRefused`` with a pointer into the body for what cannot be told.
    """
    found: list[str] = []
    for position, each in enumerate(notify or ()):
        if isinstance(each, str):
            found.append(each)
            continue
        pointer = f"/notify/{position}"
        if not call.services.settings.security.allow_inline_destinations:
            raise errors.RequestRefused(NOT_PERMITTED, pointer=pointer)
        try:
            made = await call.services.destinations.inline(call.caller.key_id, each.url, each.secret)
        except errors.RequestRefused as refused:
            raise errors.RequestRefused(str(refused), pointer=pointer + refused.pointer) from None
        found.append(made)
    return tuple(found)
