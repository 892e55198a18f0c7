"""What an answer means for a delivery: the decision tables of webhooks, chat services and mail. Pure.

The tables are data: ``TABLES`` for what a peer answers, of which the first line that fits decides,
and ``FAULTS`` for what goes wrong on the way. ``webhook`` and ``chat`` read them; they give ``None``
for a success and otherwise the error that carries the decision. ``reason`` is taken from a bounded
set (it is a metric label); what a peer said beyond that goes into the message, cleaned and cut.
docs/destinations.md shows the tables to users.
"""

from __future__ import annotations

import email.utils
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from relay.domain import errors, reasons
from relay.senders import apprise_jobs, network, words

RETRY_AFTER_MIN: Final = 1.0
"""Seconds: a peer that asks for less, or for the past, must not make us spin."""

RETRY_AFTER_BOUND: Final = 7 * 86400.0
"""Seconds: more than that is nonsense. How much of it is granted is the dispatcher's setting."""

RETRY_AFTER_LENGTH_MAX: Final = 64

OTHER: Final = "(other)"
"""Stands in a table for a word that no list knows."""

_RETRY: Final = errors.Decision.RETRY
_DEAD: Final = errors.Decision.DEAD
_DISABLE: Final = errors.Decision.DISABLE
_UNKNOWN: Final = errors.Decision.UNKNOWN

_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")


class Kind(StrEnum):
    """Whose answers a table is for."""

    WEBHOOK = "webhook"
    CHAT = "chat"
    MAIL = "mail"


class Control(StrEnum):
    """What a webhook's receiver may order in its answer's ``webhook-delivery`` header."""

    DISABLE = "disable"
    ABORT_MESSAGE = "abort-message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table.

    It fits an answer whose code is in one of ``codes`` (inclusive ranges; empty: any) and whose word
    is one of ``words`` (``None``: any or none). The word is the service's (chat), the receiver's
    order (webhook), or the step that was refused (mail). ``decision`` ``None`` is delivered;
    ``disable`` disables the destination although it was. ``reason`` ``None`` is made of the code.
    ``answer`` and ``meaning`` are for people.
    """

    answer: str
    codes: tuple[tuple[int, int], ...] = ()
    words: frozenset[str] | None = None
    decision: errors.Decision | None
    disable: bool = False
    reason: str | None = None
    meaning: str

    def fits(self, code: int, word: str | None) -> bool:
        """Whether this line is for such an answer."""
        coded = not self.codes or any(low <= code <= high for low, high in self.codes)
        return coded and (self.words is None or word in self.words)


def _codes(*codes: int | tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(code if isinstance(code, tuple) else (code, code) for code in codes)


_SUCCESS: Final = _codes((200, 299))
_REDIRECTS: Final = _codes((300, 399))
_TRANSIENT: Final = _codes(408, 425, 429, (500, 599))
_STEP_GREETING: Final = frozenset({apprise_jobs.Step.GREETING.value})
_STEP_MESSAGE: Final = frozenset({apprise_jobs.Step.MESSAGE.value})

TABLES: Final[Mapping[Kind, Sequence[Line]]] = {
    Kind.WEBHOOK: (
        Line(
            answer="2xx with `webhook-delivery: disable`",
            codes=_SUCCESS,
            words=frozenset({Control.DISABLE.value}),
            decision=None,
            disable=True,
            meaning="it took this message, and wants no more",
        ),
        Line(answer="any other 2xx", codes=_SUCCESS, decision=None, meaning="it took the message"),
        Line(
            answer="any other status with `webhook-delivery: disable`",
            words=frozenset({Control.DISABLE.value}),
            decision=_DISABLE,
            reason=reasons.Reason.DISABLED_BY_RECEIVER,
            meaning="it wants no more messages",
        ),
        Line(
            answer="any other status with `webhook-delivery: abort-message`",
            words=frozenset({Control.ABORT_MESSAGE.value}),
            decision=_DEAD,
            reason=reasons.Reason.ABORTED_BY_RECEIVER,
            meaning="it does not want this message",
        ),
        Line(answer="410", codes=_codes(410), decision=_DISABLE, meaning="it is gone for good"),
        Line(
            answer="3xx",
            codes=_REDIRECTS,
            decision=_RETRY,
            reason=reasons.Reason.REDIRECT,
            meaning="redirects are not followed; the attempt names the host",
        ),
        Line(
            answer="408, 425, 429, 5xx",
            codes=_TRANSIENT,
            decision=_RETRY,
            meaning="it cannot take it just now",
        ),
        Line(
            answer="any other status",
            decision=_RETRY,
            meaning="it refuses; a 404 may be a deploy in progress",
        ),
    ),
    Kind.CHAT: (
        Line(
            answer="408, 425, 429, 5xx",
            codes=_TRANSIENT,
            decision=_RETRY,
            meaning="it cannot take it just now",
        ),
        Line(
            answer="3xx",
            codes=_REDIRECTS,
            decision=_RETRY,
            reason=reasons.Reason.REDIRECT,
            meaning="redirects are not followed",
        ),
        Line(
            answer="a word about the destination, in a 200 or a 4xx",
            words=words.DESTINATION,
            decision=_DISABLE,
            meaning="the channel, hook or token is gone, or we may not use it",
        ),
        Line(
            answer="a word about the message, in a 200 or a 4xx",
            words=words.MESSAGE,
            decision=_DEAD,
            meaning="this message is refused, and would be again",
        ),
        Line(
            answer="2xx with any other word",
            codes=_SUCCESS,
            words=frozenset({OTHER}),
            decision=_RETRY,
            reason=reasons.Reason.SERVICE_REFUSED,
            meaning="it refuses for a reason that relay does not know",
        ),
        Line(
            answer="2xx that is not the service's way to accept",
            codes=_SUCCESS,
            decision=_UNKNOWN,
            reason=reasons.Reason.UNCLEAR_ANSWER,
            meaning="it may have taken the message",
        ),
        Line(
            answer="401, 403, 404, 410",
            codes=_codes(401, 403, 404, 410),
            decision=_DISABLE,
            meaning="the destination is gone, or does not let us in",
        ),
        Line(
            answer="400, 413, 422",
            codes=_codes(400, 413, 422),
            decision=_DEAD,
            meaning="this message is refused, and would be again",
        ),
        Line(answer="any other status", decision=_RETRY, meaning="it refuses"),
    ),
    Kind.MAIL: (
        Line(answer="4yz", codes=_codes((400, 499)), decision=_RETRY, meaning="it cannot take it just now"),
        Line(
            answer="any code in place of a greeting",
            words=_STEP_GREETING,
            decision=_RETRY,
            meaning="the server takes no mail from us just now",
        ),
        Line(
            answer="530, 534, 535, 538",
            codes=_codes(530, 534, 535, 538),
            decision=_DISABLE,
            meaning="the login is refused or missing",
        ),
        Line(
            answer="55z to the mail itself, after the addresses were taken",
            codes=_codes((550, 559)),
            words=_STEP_MESSAGE,
            decision=_DEAD,
            meaning="this mail is refused, and would be again",
        ),
        Line(
            answer="552, 554",
            codes=_codes(552, 554),
            decision=_DEAD,
            meaning="too much for the mailbox, or refused as it is",
        ),
        Line(
            answer="521, 550, 551, 553, 556",
            codes=_codes(521, 550, 551, 553, 556),
            decision=_DISABLE,
            meaning="sender or recipient is not known or not allowed there",
        ),
        Line(
            answer="500 to 504, 555",
            codes=_codes((500, 504), 555),
            decision=_RETRY,
            meaning="it does not understand a command",
        ),
        Line(answer="any other 5yz", decision=_DEAD, meaning="refused for good"),
    ),
}
"""What each kind of peer answers. What Apprise holds to be accepted is delivered before a table is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a failure on the way means. ``hung``: it used up the time limit."""

    decision: errors.Decision = _RETRY
    hung: bool = False
    charged: bool = True
    told: str


FAULTS: Final[Mapping[apprise_jobs.Fault, Trouble]] = {
    apprise_jobs.Fault.DNS_FAILED: Trouble(told="its name does not exist"),
    apprise_jobs.Fault.DNS_UNAVAILABLE: Trouble(
        charged=False, told="no resolver could say what its address is"
    ),
    apprise_jobs.Fault.NO_ROUTE: Trouble(charged=False, told="this machine has no way to its address"),
    apprise_jobs.Fault.NO_RESOURCES: Trouble(
        charged=False, told="this machine has no file descriptor or memory left for a connection"
    ),
    apprise_jobs.Fault.NO_CONNECTION: Trouble(
        charged=False, told="all connections that relay opens to its host were in use"
    ),
    apprise_jobs.Fault.CONNECT_FAILED: Trouble(told="it does not take connections"),
    apprise_jobs.Fault.CONNECT_TIMEOUT: Trouble(hung=True, told="connecting took too long"),
    apprise_jobs.Fault.TLS_FAILED: Trouble(told="its TLS certificate or handshake is not acceptable"),
    apprise_jobs.Fault.PROXY_FAILED: Trouble(charged=False, told="network.proxy does not connect to it"),
    apprise_jobs.Fault.BAD_ANSWER: Trouble(told="its answer cannot be understood"),
    apprise_jobs.Fault.CONNECTION_LOST: Trouble(told="the connection broke off"),
    apprise_jobs.Fault.TIMEOUT: Trouble(
        decision=_UNKNOWN, hung=True, told="it took the message and did not answer in time"
    ),
    apprise_jobs.Fault.CRASHED: Trouble(decision=_UNKNOWN, told="Apprise could not make sense of its answer"),
    apprise_jobs.Fault.NO_WORKER: Trouble(charged=False, told="no worker process was free to send it"),
    apprise_jobs.Fault.WORKER_DIED: Trouble(
        decision=_UNKNOWN, charged=False, told="the worker ended while sending"
    ),
}
"""What goes wrong without an answer that decides. What is relay's own doing is not charged."""


def line(kind: Kind, code: int, word: str | None) -> Line:
    """The line that decides about an answer: the first that fits. The last one of each table always does."""
    return next(found for found in TABLES[kind] if found.fits(code, word))


def control(value: str | None) -> Control | None:
    """What a ``webhook-delivery`` header orders; ``None`` for what is absent or unknown."""
    try:
        return Control(value.strip().lower()) if value is not None else None
    except ValueError:
        return None


def retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for, between 1 s and 7 days; ``None`` for nonsense.

    ``value`` is seconds or an HTTP date; a date counts from the answer's own ``Date`` header (clocks
    differ), or from ``now``, epoch seconds, where there is no readable one.
    """
    if value is None or len(value) > RETRY_AFTER_LENGTH_MAX:
        return None
    text = value.strip()
    if _DECIMAL.fullmatch(text):
        return _bounded(float(text))
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(date) if date is not None and len(date) <= RETRY_AFTER_LENGTH_MAX else None
    return _bounded(until - (now if since is None else since))


def _bounded(seconds: float) -> float:
    return min(max(seconds, RETRY_AFTER_MIN), RETRY_AFTER_BOUND)


def _http_date(text: str) -> float | None:
    try:
        parsed = email.utils.parsedate_to_datetime(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return (parsed - datetime.fromtimestamp(0, UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def webhook(
    status: int,
    *,
    who: str,
    order: Control | None = None,
    location: str | None,
    retry_after: float | None,
    excerpt: str | None,
) -> errors.SendError | None:
    """What a webhook's answer means.

    ``who`` names the destination; ``order`` is its ``webhook-delivery``; ``location`` is the
    answer's ``Location``, of which the host alone is told; ``excerpt`` is what may be told of the body.
    """
    found = line(Kind.WEBHOOK, status, order)
    if found.decision is None:
        return None
    said = f": {excerpt}" if excerpt else ""
    if 300 <= status < 400:
        said = f", a redirect to {_host(location)}; redirects are not followed"
    if found.reason in (reasons.Reason.ABORTED_BY_RECEIVER, reasons.Reason.DISABLED_BY_RECEIVER):
        said = f" and ordered webhook-delivery: {order}"
    return errors.SendError(
        f"{who} answered {status}{said}",
        reason=found.reason or f"http_{status}",
        decision=found.decision,
        status_code=status,
        retry_after=retry_after,
    )


def disables(status: int, order: Control | None) -> bool:
    """Whether the destination is disabled by an answer with which it accepted the message."""
    return line(Kind.WEBHOOK, status, order).disable


def chat(report: apprise_jobs.Report, *, who: str, now: float) -> errors.SendError | None:
    """What a chat service or mail server made of it. ``now`` is in epoch seconds."""
    if report.accepted:
        return None
    if report.problem is not None:
        return errors.SendError(
            f"{who}: {report.problem}", reason=reasons.Reason.UNUSABLE_URL, decision=_DISABLE
        )
    if report.rule is not None:
        return network.refused(who, report.rule)
    status = report.status_code
    if report.smtp_code is not None:
        return _mail(report.smtp_code, report.smtp_step, who)
    if status is not None and (report.fault is None or not 200 <= status < 300):
        wait = retry_after(report.retry_after, date=report.date, now=now)
        return _chat(status, report.word, who, wait)
    if report.fault is not None:
        return fault(report.fault, who)
    return errors.SendError(
        f"{who}: Apprise refused to send without contacting it",
        reason=reasons.Reason.NOT_ATTEMPTED,
        decision=_DEAD,
    )


def fault(fault: apprise_jobs.Fault, who: str) -> errors.SendError:
    """The error for something that went wrong on the way."""
    trouble = FAULTS[fault]
    return errors.SendError(
        f"{who}: {trouble.told}",
        reason=fault.value,
        decision=trouble.decision,
        hung=trouble.hung,
        charged=trouble.charged,
    )


_ABOUT: Final[Mapping[errors.Decision | None, str]] = {
    _DEAD: ", which is about the message",
    _DISABLE: ", which is about the destination",
}


def _chat(status: int, word: str | None, who: str, wait: float | None) -> errors.SendError:
    known = word if word in words.KNOWN else (None if word is None else OTHER)
    found = line(Kind.CHAT, status, known)
    # In a 200 the word is all there is.
    own = word if known is word and 200 <= status < 300 else None
    said = f" ({word})" if word else ""
    return errors.SendError(
        f"{who} answered {status}{said}{_ABOUT.get(found.decision, '')}",
        reason=found.reason or own or f"http_{status}",
        decision=found.decision or _UNKNOWN,
        status_code=status,
        retry_after=wait,
    )


def _mail(code: int, step: apprise_jobs.Step | None, who: str) -> errors.SendError:
    found = line(Kind.MAIL, code, step)
    return errors.SendError(
        f"{who}: the mail server answered {code}{_ABOUT.get(found.decision, '')}",
        reason=f"smtp_{code}",
        decision=found.decision or _UNKNOWN,
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
