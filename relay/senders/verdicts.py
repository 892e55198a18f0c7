"""What an answer means for a delivery: the decision tables of webhooks, chat services and SMTP. Pure.

``webhook`` and ``chat`` give ``None`` for a success and otherwise the error that carries the
decision. ``reason`` is taken from a bounded set (it is a metric label); what a peer said beyond
that goes into the message, cleaned and cut.
"""

from __future__ import annotations

import email.utils
import re
import urllib.parse
from datetime import UTC, datetime
from typing import Final

from relay.domain import errors
from relay.senders import apprise_jobs, network

RETRY_AFTER_MIN: Final = 1.0
"""Seconds: a peer that asks for less, or for the past, must not make us spin."""

RETRY_AFTER_MAX: Final = 3600.0
"""Seconds: longer waits are the schedule's business."""

RETRY_AFTER_LENGTH_MAX: Final = 64

_RETRY: Final = errors.Decision.RETRY
_DEAD: Final = errors.Decision.DEAD
_UNKNOWN: Final = errors.Decision.UNKNOWN

MESSAGE_STATUSES: Final = frozenset({400, 413, 422})
"""Chat: this message is refused and would be again."""

DESTINATION_STATUSES: Final = frozenset({401, 403, 404, 410})
"""Chat: the destination is gone or does not want us. (A webhook's 404 may be a deploy in progress.)"""

DESTINATION_WORDS: Final = frozenset(
    {
        "account_inactive",
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_auth",
        "invalid_token",
        "is_archived",
        "missing_scope",
        "no_service",
        "no_team",
        "not_authed",
        "not_in_channel",
        "org_login_required",
        "restricted_action",
        "team_disabled",
        "team_not_found",
        "token_expired",
        "token_revoked",
        "user_not_found",
    }
)
"""Slack's answers about the destination: in the body of a 200 for bots, of a 4xx for webhooks."""

MESSAGE_WORDS: Final = frozenset(
    {"invalid_arguments", "invalid_blocks", "invalid_payload", "msg_too_long", "no_text"}
)
"""Slack's answers about the message."""

_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")

_FAULTS: Final[dict[apprise_jobs.Fault, tuple[errors.Decision, bool, str]]] = {
    # Fault: decision, whether the time limit was used up, what is told.
    apprise_jobs.Fault.DNS_FAILED: (_RETRY, False, "its name cannot be resolved"),
    apprise_jobs.Fault.CONNECT_FAILED: (_RETRY, False, "it does not take connections"),
    apprise_jobs.Fault.CONNECT_TIMEOUT: (_RETRY, True, "connecting took too long"),
    apprise_jobs.Fault.TLS_FAILED: (_RETRY, False, "its TLS certificate or handshake is not acceptable"),
    apprise_jobs.Fault.PROXY_FAILED: (_RETRY, False, "network.proxy does not connect to it"),
    apprise_jobs.Fault.CONNECTION_LOST: (_RETRY, False, "the connection broke off"),
    apprise_jobs.Fault.TIMEOUT: (_UNKNOWN, True, "it took the message and did not answer in time"),
    apprise_jobs.Fault.CRASHED: (_UNKNOWN, False, "Apprise could not make sense of its answer"),
}


def retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for, between 1 s and 1 h; ``None`` for nonsense.

    ``value`` is seconds or an HTTP date; a date counts from the answer's own ``Date`` header (clocks
    differ), or from ``now``, epoch seconds, where there is no readable one.
    """
    if value is None or len(value) > RETRY_AFTER_LENGTH_MAX:
        return None
    text = value.strip()
    if _DECIMAL.fullmatch(text):
        return _clamp(float(text))
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(date) if date is not None and len(date) <= RETRY_AFTER_LENGTH_MAX else None
    return _clamp(until - (now if since is None else since))


def _clamp(seconds: float) -> float:
    return min(max(seconds, RETRY_AFTER_MIN), RETRY_AFTER_MAX)


def _http_date(text: str) -> float | None:
    try:
        parsed = email.utils.parsedate_to_datetime(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return (parsed - datetime.fromtimestamp(0, UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def webhook(
    status: int, *, who: str, location: str | None, retry_after: float | None, excerpt: str | None
) -> errors.SendError | None:
    """The table of webhooks: 2xx is a success, everything else is retried.

    ``who`` names the destination; ``location`` is the answer's ``Location``, of which the host alone
    is told; ``excerpt`` is what may be told of the body.
    """
    if 200 <= status < 300:
        return None
    said = f": {excerpt}" if excerpt else ""
    if 300 <= status < 400:
        return errors.SendError(
            f"{who} answered {status}, a redirect to {_host(location)}; redirects are not followed",
            reason="redirect",
            status_code=status,
            retry_after=retry_after,
        )
    return errors.SendError(
        f"{who} answered {status}{said}",
        reason=f"http_{status}",
        status_code=status,
        retry_after=retry_after,
    )


def chat(report: apprise_jobs.Report, *, who: str, now: float) -> errors.SendError | None:
    """The table of chat services and mail. ``now`` is in epoch seconds."""
    if report.accepted:
        return None
    if report.problem is not None:
        return errors.SendError(f"{who}: {report.problem}", reason="unusable_url", decision=_DEAD)
    if report.rule is not None:
        return network.refused(who, report.rule)
    status = report.status_code
    if report.smtp_code is not None:
        return _smtp(report.smtp_code, who)
    if status is not None and (report.fault is None or not 200 <= status < 300):
        wait = retry_after(report.retry_after, date=report.date, now=now)
        return _http(status, report.word, who, wait)
    if report.fault is not None:
        return fault(report.fault, who)
    return errors.SendError(
        f"{who}: Apprise refused to send without contacting it", reason="not_attempted", decision=_DEAD
    )


def fault(fault: apprise_jobs.Fault, who: str) -> errors.SendError:
    """The error for something that went wrong on the way to a chat service or mail server."""
    decision, hung, told = _FAULTS[fault]
    return errors.SendError(f"{who}: {told}", reason=fault.value, decision=decision, hung=hung)


def _http(status: int, word: str | None, who: str, wait: float | None) -> errors.SendError:
    reason, decision, about = f"http_{status}", _RETRY, ""
    known = word in DESTINATION_WORDS or word in MESSAGE_WORDS
    if 200 <= status < 300:
        # Known words decide; an unknown one is retried; without any it may have been accepted.
        reason = word if word is not None and known else ("service_refused" if word else "unclear_answer")
        decision = _DEAD if known else (_RETRY if word else _UNKNOWN)
    elif 300 <= status < 400:
        reason = "redirect"
    elif known or status in MESSAGE_STATUSES or status in DESTINATION_STATUSES:
        decision = _DEAD
    if decision is _DEAD:
        of_message = word in MESSAGE_WORDS or (status in MESSAGE_STATUSES and word not in DESTINATION_WORDS)
        about = ", which is about the message" if of_message else ", which is about the destination"
    said = f" ({word})" if word else ""
    return errors.SendError(
        f"{who} answered {status}{said}{about}",
        reason=reason,
        decision=decision,
        status_code=status,
        retry_after=wait,
    )


def _smtp(code: int, who: str) -> errors.SendError:
    """RFC 5321: 4yz is temporary, 5yz permanent."""
    about = "the message" if code in (552, 554) else "the destination"
    return errors.SendError(
        f"{who}: the mail server answered {code}" + (f", which is about {about}" if code >= 500 else ""),
        reason=f"smtp_{code}",
        decision=_DEAD if code >= 500 else _RETRY,
        status_code=code,
    )


def _host(location: str | None) -> str:
    """The host of a ``Location``, fit to be shown."""
    if not location:
        return "nowhere"
    try:
        host = urllib.parse.urlsplit(location[:2048]).hostname
    except ValueError:
        return "an unreadable address"
    if not host:
        return "the same host"
    return "".join(c if c.isalnum() or c in ".-:" else "?" for c in host[:253])
