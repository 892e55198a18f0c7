"""The decision table as it is promised, written out by hand: what the contract suite holds the senders to.

Nothing here is taken from the code under test; that its own table has no line beyond these is shown too.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.domain import errors
from tests.fakes import receivers

RETRY, DEAD = errors.Decision.RETRY, errors.Decision.DEAD
DISABLE, UNKNOWN = errors.Decision.DISABLE, errors.Decision.UNKNOWN

REDIRECTS = (300, 301, 302, 303, 304, 307, 308)
REFUSALS = (
    *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 417, 418),
    *(421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499),
    *(500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599),
)
STATUSES = (*REDIRECTS, *REFUSALS)

ABOUT_THE_DESTINATION = {False: (410,), True: (401, 403, 404, 410)}
"""By whether it is a chat service."""

ABOUT_THE_MESSAGE: dict[bool, tuple[int, ...]] = {False: (), True: (400, 413, 422)}


def of_status(status: int, *, chat: bool) -> tuple[str, errors.Decision]:
    """Reason and decision of a bare status."""
    reason = "redirect" if status in REDIRECTS else f"http_{status}"
    if status in ABOUT_THE_DESTINATION[chat]:
        return reason, DISABLE
    return reason, DEAD if status in ABOUT_THE_MESSAGE[chat] else RETRY


@dataclass(frozen=True)
class Case:
    """What one service answers in its own way, and what it means."""

    channel: str
    status: int
    body: bytes
    reason: str
    decision: errors.Decision
    retry_after: float | None = None

    @property
    def answer(self) -> receivers.Answer:
        """As the receiver gives it."""
        return receivers.Answer(status=self.status, body=self.body)


def _bot(word: str, reason: str, decision: errors.Decision) -> Case:
    return Case("slack_bot", 200, b'{"ok": false, "error": "%s"}' % word.encode(), reason, decision)


def _hook(status: int, word: str, decision: errors.Decision) -> Case:
    return Case("slack_webhook", status, word.encode(), f"http_{status}", decision)


def _telegram(status: int, said: str, decision: errors.Decision) -> Case:
    body = b'{"ok":false,"error_code":%d,"description":"%s"}' % (status, said.encode())
    return Case("telegram", status, body, f"http_{status}", decision)


def _mattermost(status: int, word: str, decision: errors.Decision) -> Case:
    body = b'{"id":"web.incoming_webhook.%s.app_error","message":"No.","status_code":%d}'
    return Case("mattermost", status, body % (word.encode(), status), f"http_{status}", decision)


def _teams(status: int, code: str, decision: errors.Decision) -> Case:
    body = b'{"error":{"code":"%s","message":"No."}}' % code.encode()
    return Case("teams", status, body, f"http_{status}", decision)


CASES = [
    _hook(404, "no_service", DISABLE),
    _hook(404, "channel_not_found", DISABLE),
    _hook(403, "invalid_token", DISABLE),
    _hook(403, "action_prohibited", DISABLE),
    _hook(410, "channel_is_archived", DISABLE),
    _hook(400, "user_not_found", DISABLE),
    _hook(400, "invalid_payload", DEAD),
    _hook(400, "no_text", DEAD),
    _hook(500, "rollup_error", RETRY),
    _hook(500, "channel_not_found", RETRY),
    Case("slack_webhook", 200, b"not ok", "unclear_answer", UNKNOWN),
    _bot("channel_not_found", "channel_not_found", DISABLE),
    _bot("invalid_auth", "invalid_auth", DISABLE),
    _bot("token_revoked", "token_revoked", DISABLE),
    _bot("account_inactive", "account_inactive", DISABLE),
    _bot("not_in_channel", "not_in_channel", DISABLE),
    _bot("is_archived", "is_archived", DISABLE),
    _bot("missing_scope", "missing_scope", DISABLE),
    _bot("msg_too_long", "msg_too_long", DEAD),
    _bot("no_text", "no_text", DEAD),
    _bot("ratelimited", "service_refused", RETRY),
    _bot("internal_error", "service_refused", RETRY),
    Case("slack_bot", 200, b'{"ok": false}', "unclear_answer", UNKNOWN),
    Case("slack_bot", 200, b"<html>", "unclear_answer", UNKNOWN),
    Case("discord", 404, b'{"message": "Unknown Webhook", "code": 10015}', "http_404", DISABLE),
    Case("discord", 401, b'{"message": "Invalid Webhook Token", "code": 50027}', "http_401", DISABLE),
    Case("discord", 400, b'{"message": "Cannot send an empty message", "code": 50006}', "http_400", DEAD),
    Case("discord", 429, b'{"message": "limited", "retry_after": 64.57}', "http_429", RETRY, 64.57),
    Case("discord", 429, b'{"message": "limited", "retry_after": 0.3}', "http_429", RETRY, 1.0),
    Case("discord", 429, b'{"message": "limited", "retry_after": 1e300}', "http_429", RETRY, 604800.0),
    Case("discord", 429, b'{"message": "limited", "retry_after": -5}', "http_429", RETRY),
    Case("discord", 429, b'{"message": "limited", "retry_after": NaN}', "http_429", RETRY),
    _telegram(403, "Forbidden: bot was blocked by the user", DISABLE),
    _telegram(403, "Forbidden: bot was kicked from the group chat", DISABLE),
    _telegram(401, "Unauthorized", DISABLE),
    _telegram(400, "Bad Request: chat not found", DISABLE),
    _telegram(400, "Bad Request: group chat was upgraded to a supergroup chat", DISABLE),
    _telegram(400, "Bad Request: PEER_ID_INVALID", DISABLE),
    _telegram(400, "Bad Request: TOPIC_CLOSED", DISABLE),
    _telegram(400, "Bad Request: message is too long", DEAD),
    _telegram(400, "Bad Request: can't parse entities: Unsupported start tag", DEAD),
    Case(
        "telegram",
        429,
        b'{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 31",'
        b'"parameters":{"retry_after":31}}',
        "http_429",
        RETRY,
        31.0,
    ),
    Case("ntfy", 403, b'{"code":40301,"http":403,"error":"forbidden"}', "http_403", DISABLE),
    Case("ntfy", 413, b'{"code":41301,"http":413,"error":"attachment too large"}', "http_413", DEAD),
    Case("ntfy", 429, b'{"code":42901,"http":429,"error":"limit reached"}', "http_429", RETRY),
    Case("ntfy", 507, b'{"code":50701,"http":507,"error":"no space"}', "http_507", RETRY),
    _mattermost(400, "invalid", DISABLE),
    _mattermost(404, "channel", DISABLE),
    _mattermost(403, "permissions", DISABLE),
    _mattermost(400, "text", DEAD),
    _mattermost(501, "disabled", RETRY),
    _teams(400, "WorkflowTriggerIsNotEnabled", DISABLE),
    _teams(404, "WorkflowNotFound", DISABLE),
    _teams(401, "DirectApiAuthorizationRequired", DISABLE),
    _teams(400, "InvalidRequestContent", DEAD),
    _teams(429, "TooManyRequests", RETRY),
    Case("gotify", 401, b'{"error":"Unauthorized","errorCode":401}', "http_401", DISABLE),
    Case("gotify", 400, b'{"error":"Bad Request","errorCode":400}', "http_400", DEAD),
]

ORDERS = [
    # status, webhook-delivery, reason (None: delivered), decision (None: delivered), destination disabled
    (200, "disable", None, None, True),
    (204, "DISABLE", None, None, True),
    (200, "abort-message", None, None, False),
    (200, "no-such-order", None, None, False),
    (302, "disable", "disabled_by_receiver", DISABLE, True),
    (404, " Disable ", "disabled_by_receiver", DISABLE, True),
    (410, "disable", "disabled_by_receiver", DISABLE, True),
    (500, "disable", "disabled_by_receiver", DISABLE, True),
    (302, "abort-message", "aborted_by_receiver", DEAD, False),
    (400, "Abort-Message", "aborted_by_receiver", DEAD, False),
    (410, "abort-message", "aborted_by_receiver", DEAD, False),
    (503, "abort-message", "aborted_by_receiver", DEAD, False),
    (500, "disabled", "http_500", RETRY, False),
    (500, "", "http_500", RETRY, False),
    (410, "no-such-order", "http_410", DISABLE, True),
]
"""What a webhook's receiver may order, and what becomes of it."""

MAIL = [
    ("GREETING", "421 too busy", RETRY),
    ("GREETING", "554 no mail from you", RETRY),
    ("AUTH", "454 4.7.0 try later", RETRY),
    ("AUTH", "530 5.7.0 not like this", DISABLE),
    ("AUTH", "534 5.7.9 too weak", DISABLE),
    ("AUTH", "535 5.7.8 no such login", DISABLE),
    ("AUTH", "538 5.7.11 not in the clear", DISABLE),
    ("MAIL", "421 going down", RETRY),
    ("MAIL", "451 try later", RETRY),
    ("MAIL", "501 what", RETRY),
    ("MAIL", "530 log in first", DISABLE),
    ("MAIL", "550 not from you", DISABLE),
    ("MAIL", "552 too large", DEAD),
    ("MAIL", "555 what", RETRY),
    ("RCPT", "421 going down", RETRY),
    ("RCPT", "450 greylisted", RETRY),
    ("RCPT", "452 mailbox full", RETRY),
    ("RCPT", "521 takes no mail", DISABLE),
    ("RCPT", "550 no such user", DISABLE),
    ("RCPT", "551 not here", DISABLE),
    ("RCPT", "552 mailbox full", DEAD),
    ("RCPT", "553 what an address", DISABLE),
    ("RCPT", "554 refused", DEAD),
    ("RCPT", "556 takes no mail", DISABLE),
    ("DATA", "421 going down", RETRY),
    ("DATA", "451 try later", RETRY),
    ("DATA", "550 looks like spam", DEAD),
    ("DATA", "552 mailbox full", DEAD),
    ("DATA", "554 looks like spam", DEAD),
    ("DATA", "571 refused", DEAD),
]
"""The line a mail server answers to a command."""
