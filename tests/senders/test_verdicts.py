"""The decision tables where the contract suite does not reach: words, faults, odd headers."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
import requests
import urllib3.exceptions
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.domain import errors
from relay.senders import apprise_guard, apprise_jobs, faults, network, verdicts, words

RETRY, DEAD = errors.Decision.RETRY, errors.Decision.DEAD
DISABLE, UNKNOWN = errors.Decision.DISABLE, errors.Decision.UNKNOWN
NOW = 1_800_000_000.0


def judge(**seen: object) -> errors.SendError:
    report = apprise_jobs.Report(accepted=False, **seen)  # type: ignore[arg-type]
    failure = verdicts.chat(report, who="renders", now=NOW)
    assert failure is not None
    return failure


@pytest.mark.parametrize(
    ("seen", "reason", "decision", "about"),
    [
        ({"status_code": 200, "word": "channel_not_found"}, "channel_not_found", DISABLE, "destination"),
        ({"status_code": 200, "word": "invalid_auth"}, "invalid_auth", DISABLE, "destination"),
        ({"status_code": 200, "word": "msg_too_long"}, "msg_too_long", DEAD, "message"),
        ({"status_code": 200, "word": "ratelimited"}, "service_refused", RETRY, "ratelimited"),
        ({"status_code": 200}, "unclear_answer", UNKNOWN, "200"),
        ({"status_code": 404, "word": "no_service"}, "http_404", DISABLE, "destination"),
        ({"status_code": 410, "word": "channel_is_archived"}, "http_410", DISABLE, "destination"),
        ({"status_code": 400, "word": "invalid_payload"}, "http_400", DEAD, "message"),
        ({"status_code": 400, "word": "user_not_found"}, "http_400", DISABLE, "destination"),
        ({"status_code": 402}, "http_402", RETRY, "402"),
        ({"status_code": 500, "fault": apprise_jobs.Fault.TIMEOUT}, "http_500", RETRY, "500"),
        ({"status_code": 200, "fault": apprise_jobs.Fault.TIMEOUT}, "timeout", UNKNOWN, "in time"),
        ({"smtp_code": 550}, "smtp_550", DISABLE, "destination"),
        (
            {"smtp_code": 550, "smtp_step": apprise_jobs.Step.MESSAGE},
            "smtp_550",
            DEAD,
            "message",
        ),
        ({"smtp_code": 554}, "smtp_554", DEAD, "message"),
        ({"smtp_code": 421}, "smtp_421", RETRY, "421"),
        ({"problem": "one destination has one URL"}, "unusable_url", DISABLE, "one URL"),
        ({}, "not_attempted", DEAD, "without contacting"),
    ],
)
def test_what_is_seen_decides(
    seen: dict[str, object], reason: str, decision: errors.Decision, about: str
) -> None:
    failure = judge(**seen)
    assert (failure.reason, failure.decision) == (reason, decision)
    assert about in str(failure)
    assert str(failure).startswith("renders")


OWN = {
    *("dns_unavailable", "no_route", "no_resources", "no_connection"),
    *("proxy_failed", "no_worker", "worker_died"),
}
"""Faults that are relay's or its machine's."""


@pytest.mark.parametrize("fault", list(apprise_jobs.Fault))
def test_every_fault_has_a_decision(fault: apprise_jobs.Fault) -> None:
    failure = judge(fault=fault)
    assert failure.reason == fault.value
    assert failure.decision is (UNKNOWN if fault in ("timeout", "crashed", "worker_died") else RETRY)
    assert failure.hung == (fault in (apprise_jobs.Fault.TIMEOUT, apprise_jobs.Fault.CONNECT_TIMEOUT))
    assert failure.charged == (fault not in OWN)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(errno.ENETUNREACH, "x"), "no_route"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "no_route"),
        (PermissionError(errno.EPERM, "x"), "no_route"),
        (OSError(errno.EMFILE, "x"), "no_resources"),
        (OSError(errno.ENFILE, "x"), "no_resources"),
        (OSError(errno.ENOMEM, "x"), "no_resources"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "dns_unavailable"),
        (socket.gaierror(socket.EAI_FAIL, "x"), "dns_unavailable"),
        (socket.gaierror(socket.EAI_NONAME, "x"), None),
        (OSError(errno.EHOSTUNREACH, "x"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), None),
        (ssl.SSLError(1, "x"), None),
        (ValueError("x"), None),
    ],
)
def test_what_is_our_own_fault_is_known(error: Exception, fault: str | None) -> None:
    assert faults.own(error) == fault
    if fault is not None:
        wrapped = requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", error))  # type: ignore[arg-type]
        assert apprise_guard.http_fault(wrapped) == fault


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"ok": False, "error": "channel_not_found"}, 200, "channel_not_found"),
        ({"ok": True, "error": "channel_not_found"}, 200, None),
        ({"error": "channel_not_found"}, 200, None),
        ({"error": "anything_else"}, 400, "anything_else"),
        ({"error": "Prose, not a word"}, 400, None),
        ({"error": {"code": "WorkflowTriggerIsNotEnabled"}}, 400, "workflow_trigger_is_not_enabled"),
        ({"code": "WorkflowTriggerIsNotEnabled"}, 400, "workflow_trigger_is_not_enabled"),
        ({"error": {"code": 7}, "code": 10015}, 404, None),
        ({"description": "Bad Request: chat not found"}, 400, "chat_not_found"),
        ({"description": "Bad Request: strange and new"}, 400, None),
        ({"description": "chat not found" * 1000}, 400, None),
        ({"id": "web.incoming_webhook.invalid.app_error"}, 400, "web_incoming_webhook_invalid_app_error"),
        ([], 400, None),
        (None, 400, None),
    ],
)
def test_the_word_is_found_where_each_service_puts_it(body: object, status: int, word: str | None) -> None:
    assert words.said(body, status=status) == word


def test_no_word_is_about_both() -> None:
    assert not words.DESTINATION & words.MESSAGE


@pytest.mark.parametrize("kind", list(verdicts.Kind))
@pytest.mark.parametrize("code", [100, 200, 299, 300, 404, 500, 599, 600, 999])
def test_every_answer_has_a_line(kind: verdicts.Kind, code: int) -> None:
    for word in (None, verdicts.OTHER, *verdicts.Control, *apprise_jobs.Step):
        assert verdicts.line(kind, code, word) in verdicts.TABLES[kind]


def test_a_refused_address_outweighs_what_it_caused() -> None:
    failure = judge(rule=network.Rule.METADATA, fault=apprise_jobs.Fault.CONNECT_FAILED)
    assert isinstance(failure, errors.AddressRefused)
    assert failure.rule == "metadata"


def test_accepted_is_accepted_whatever_else_was_seen() -> None:
    report = apprise_jobs.Report(accepted=True, fault=apprise_jobs.Fault.CONNECTION_LOST, status_code=200)
    assert verdicts.chat(report, who="renders", now=NOW) is None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_webhook_is_accepted_by_any_2xx(status: int) -> None:
    assert verdicts.webhook(status, who="w", location=None, retry_after=None, excerpt=None) is None


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://elsewhere.example/secret?token=1", "elsewhere.example;"),
        ("/login?next=secret", "the same host;"),
        ("https://[broken/secret", "an unreadable address;"),
        ("https://user:secret@x.example:1/", "x.example;"),
        ("https://a\x1b[31mb/secret", "secret"),
        (None, "nowhere;"),
    ],
)
def test_a_redirect_shows_the_host_alone(location: str | None, shown: str) -> None:
    failure = verdicts.webhook(301, who="w", location=location, retry_after=None, excerpt=None)
    assert failure is not None
    assert failure.reason == "redirect"
    if shown != "secret":
        assert f"a redirect to {shown}" in str(failure)
    assert "secret" not in str(failure)
    assert str(failure).isprintable()


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("7", None, 7.0),
        (" 7 ", None, 7.0),
        ("0.35", None, 1.0),
        ("12.5", None, 12.5),
        ("9" * 60, None, 604_800.0),
        ("9" * 5000, None, None),
        ("-1", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("1e3", None, None),
        ("٧", None, None),
        ("", None, None),
        ("soon", None, None),
        (None, None, None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", None, 30.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", "Fri, 15 Jan 2027 08:00:20 GMT", 10.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", "nonsense", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", None, 1.0),
        ("Fri, 15 Jan 9999 08:00:30 GMT", None, 604_800.0),
        ("Fri, 99 Jan 2027 08:00:30 GMT", None, None),
        ("Fri, 15 Jan 2027 08:00:30 -0000", None, 30.0),
    ],
)
def test_retry_after_is_bounded_and_survives_nonsense(
    value: str | None, date: str | None, seconds: float | None
) -> None:
    assert verdicts.retry_after(value, date=date, now=NOW) == seconds


@settings(deadline=None)
@given(st.text(max_size=80), st.none() | st.text(max_size=80))
def test_retry_after_never_raises(value: str, date: str | None) -> None:
    found = verdicts.retry_after(value, date=date, now=NOW)
    assert found is None or 1.0 <= found <= 604_800.0
