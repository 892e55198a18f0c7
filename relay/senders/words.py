"""Short names by which chat services say why they refused, and what those that relay knows are about. Pure.

A service puts its word into the body of a 4xx, some into that of a 200. Workers find it
(``said``), ``verdicts.py`` judges it. Only words of these lists become a reason: what else a peer
writes is no metric label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

WORD_LENGTH_MAX: Final = 64

_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GAP: Final = re.compile(r"[^a-z0-9]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SLACK_DESTINATION: Final = _words(
    """
    account_inactive action_prohibited channel_is_archived channel_not_found invalid_auth invalid_token
    is_archived missing_scope no_active_hooks no_service no_service_id no_team not_authed not_in_channel
    org_login_required posting_to_general_channel_denied restricted_action team_access_not_granted
    team_disabled team_not_found token_expired token_revoked user_not_found
    """
)
"""In the body of a 200 for bots, of a 4xx for webhooks (Slack's documentation of both)."""

TELEGRAM_DESTINATION: Final = _words(
    """
    chat_not_found chat_restricted chat_write_forbidden
    group_chat_was_upgraded_to_a_supergroup_chat have_no_rights_to_send_a_message message_thread_not_found
    need_administrator_rights_in_the_channel_chat not_enough_rights_to_send_text_messages_to_the_chat
    peer_id_invalid topic_closed topic_deleted
    """
)
"""Telegram answers 400 to these as it does to a bad message, and tells them apart in its description."""

MATTERMOST_DESTINATION: Final = _words(
    """
    web_incoming_webhook_channel_app_error web_incoming_webhook_channel_locked_app_error
    web_incoming_webhook_invalid_app_error web_incoming_webhook_permissions_app_error
    web_incoming_webhook_user_app_error
    """
)
"""A webhook that was deleted is a 400 of Mattermost's."""

TEAMS_DESTINATION: Final = _words("workflow_not_found workflow_trigger_is_not_enabled")
"""A workflow that was turned off is a 400 of Power Automate's."""

DESTINATION: Final = SLACK_DESTINATION | TELEGRAM_DESTINATION | MATTERMOST_DESTINATION | TEAMS_DESTINATION
"""The destination is gone or does not want us."""

MESSAGE: Final = _words(
    """
    cannot_reply_to_message invalid_arguments invalid_blocks invalid_payload message_is_too_long
    message_text_is_empty msg_blocks_too_long msg_too_long no_text too_many_attachments
    """
)
"""This message is refused and would be again."""

KNOWN: Final = DESTINATION | MESSAGE


def said(body: object, *, status: int) -> str | None:
    """The service's word in the decoded ``body`` of its answer, or ``None``.

    A 2xx is only a refusal where the body says so itself (``"ok": false``). Of ``error`` any word
    is taken, of the places where other services put prose or codes only known ones.

    >>> said({"ok": False, "error": "channel_not_found"}, status=200)
    'channel_not_found'
    >>> said({"description": "Bad Request: chat not found"}, status=400)
    'chat_not_found'
    """
    if not isinstance(body, Mapping) or not (status >= 400 or body.get("ok") is False):
        return None
    error = body.get("error")
    if isinstance(error, str) and _WORD.fullmatch(error):
        return error
    places = [error.get("code") if isinstance(error, Mapping) else None]
    places += [body.get(name) for name in ("code", "id", "description")]
    slugs = (_slug(text) for text in places if isinstance(text, str) and len(text) <= 200)
    return next((slug for slug in slugs if slug in KNOWN), None)


def _slug(text: str) -> str:
    """``text`` as a word: what follows the last colon, in lower case, joined by underscores."""
    return _GAP.sub("_", _HUMP.sub("_", text.rpartition(": ")[2]).lower()).strip("_")
