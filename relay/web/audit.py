"""A line for every change that an operator may be asked about later: who did what to whom.

Lines go to the logger ``relay.audit`` at level info, so that they can be kept apart. They hold ids
and names, never a key's text or a URL.
"""

from __future__ import annotations

import structlog

from relay.web import endpoints, problems

_log = structlog.get_logger("relay.audit")


def note(call: endpoints.Call, action: str, target: str, **more: str) -> None:
    """``action`` (``key.created``) was done to ``target`` (its id or name), by the caller of ``call``."""
    _log.info(
        action, key=call.caller.key_id, target=target, request_id=call.request[problems.REQUEST_ID], **more
    )
