"""Sends one message at a time through Apprise, in a process that may be killed at any moment.

The daemon never imports this module: its pool of workers (``apprise.py``) preloads it, and
``python -m relay.senders.apprise_worker`` answers on stdout what Apprise makes of the URLs on stdin.
Apprise is kept from repeating, pacing, following redirects, reading files and threading; who is
dialled and what was answered is the business of ``apprise_guard.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import signal
import sys
import urllib.parse
from typing import Any, Final

import apprise
from apprise import manager_plugins, plugins

from relay.senders import apprise_guard, apprise_jobs, cutting, network, schemes

ALARM_GRACE: Final = 2.0
"""Seconds after its limit at which a send ends its own process: the pool did not, so it is gone."""

CONNECT_TIMEOUT: Final = 4.0
"""Seconds for connecting to a chat service (Apprise's own default)."""

READ_SHARE: Final = 0.9
"""A chat answer is waited for a little shorter than the limit: giving up is cheaper than being killed."""

NTFY_TEXT_MAX: Final = 4096
"""ntfy turns a longer message into an attachment (bytes; ntfy's documentation)."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*|[0-9]+[A-Za-z]+)://")

# Loading the plugins takes 0.3 s: done once, by the process that workers are forked from.
_services: Final[Any] = manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]
_services.load_modules()
_services.enable_only(*schemes.ALLOWED)

# Every file or URL that a plugin reads comes in as an attachment. None does, whatever argument names it.
apprise.AppriseAttachment.add = lambda *args, **kwargs: False  # type: ignore[method-assign]


def prepare(surroundings: apprise_jobs.Surroundings) -> None:
    """Make this process a worker: signals, environment, logs, guards."""
    # The daemon ends its workers; a SIGTERM for the whole group must not cut a send in flight.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, HOME="/nonexistent")
    if surroundings.proxy:
        os.environ.update(http_proxy=surroundings.proxy, https_proxy=surroundings.proxy)
    # Apprise's log lines hold URLs, which are secrets.
    logging.disable(logging.CRITICAL)
    apprise_guard.install(surroundings)


def send(job: apprise_jobs.Job) -> apprise_jobs.Report:
    """Send one message. Whatever happens, this process lives at most ``limit`` + 2 s from now."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, job.limit + ALARM_GRACE)
    try:
        return _send(job)
    except Exception:
        # Nothing of it may reach the daemon as text: tracebacks of plugins hold URLs.
        return apprise_jobs.Report(accepted=False, fault=apprise_jobs.Fault.CRASHED)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _send(job: apprise_jobs.Job) -> apprise_jobs.Report:
    notes = apprise_guard.begin()
    service, finding = open_service(job.url)
    if service is None:
        return apprise_jobs.Report(accepted=False, problem=finding.problem)
    mail = finding.scheme in schemes.MAIL
    service.socket_connect_timeout = job.limit if mail else min(CONNECT_TIMEOUT, job.limit * READ_SHARE)
    service.socket_read_timeout = job.limit * READ_SHARE
    title, text = job.title, job.text
    if not mail:
        title, text = cutting.silence(title), cutting.silence(text)
    title, text = cutting.fit(title, text, limits(service, finding.scheme))
    accepted = False
    try:
        sending = apprise.Apprise(asset=service.asset)
        sending.add(service)
        # Told to be text, it is escaped for every service, Telegram's HTML and Slack's markup included.
        accepted = bool(sending.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT))
    except Exception:
        # Plugins raise whatever their parsing of an answer raises; the answer itself was noted.
        notes.failed(apprise_jobs.Fault.CRASHED)
    answer = notes.deciding()
    if answer is None:
        return apprise_jobs.Report(
            accepted=accepted,
            smtp_code=notes.smtp_code,
            smtp_step=notes.smtp_step,
            fault=notes.fault or notes.way,
            rule=notes.rule,
            reached=notes.reached,
        )
    return apprise_jobs.Report(
        accepted=accepted,
        status_code=answer.status,
        retry_after=answer.retry_after if answer.asked is None else f"{answer.asked:.3f}",
        date=answer.date,
        word=answer.word,
        fault=notes.fault or notes.way,
        rule=notes.rule,
        private=notes.private,
    )


def limits(service: Any, scheme: str | None) -> cutting.Limits:
    """What ``service`` takes, from its plugin."""
    if scheme in ("ntfy", "ntfys"):
        return cutting.Limits(title=service.title_maxlen, text=NTFY_TEXT_MAX, measure=cutting.utf8)
    return cutting.Limits(
        title=service.title_maxlen,
        text=service.body_maxlen,
        shared=bool(service.overflow_amalgamate_title),
    )


def open_service(url: str) -> tuple[Any, apprise_jobs.Finding]:
    """An Apprise service for ``url``, or ``None`` and a finding that says why not."""
    problem = _malformed(url)
    if problem is not None:
        return None, apprise_jobs.Finding(problem=problem)
    scheme = url.partition("://")[0].lower()
    native = scheme in ("http", "https")
    if not native and (problem := schemes.problem(scheme)) is not None:
        return None, apprise_jobs.Finding(scheme=scheme, problem=problem)
    parsed: dict[str, Any] | None = None
    with contextlib.suppress(Exception):  # parsers of plugins raise what they like
        parsed = plugins.url_to_dict(url)  # type: ignore[no-untyped-call]
    if not parsed or parsed.get("schema") not in schemes.ALLOWED:
        if native:
            return None, apprise_jobs.Finding()
        return None, apprise_jobs.Finding(scheme=scheme, problem=_not_understood(url, scheme))
    scheme = parsed["schema"]
    name = str(_services[scheme].service_name)
    refused = _refused_arguments(url, parsed)
    if refused:
        problem = f"the URL argument {', '.join(refused)} is not allowed; leave it out"
        return None, apprise_jobs.Finding(scheme=scheme, service=name, problem=problem)
    service: Any = apprise.Apprise.instantiate(parsed, asset=_asset())
    if service is None:
        problem = f"Apprise does not accept this {scheme}:// URL: a part of it is missing or malformed"
        return None, apprise_jobs.Finding(scheme=scheme, service=name, problem=problem)
    service.request_rate_per_sec = 0
    # Some plugins sleep when a service asks them to; pacing belongs to the dispatcher.
    service.throttle = lambda *args, **kwargs: None
    if service.notify_format == apprise.NotifyFormat.MARKDOWN:
        # Made into Markdown, a link is full of backslashes, which Teams and others do not take away.
        service.notify_format = apprise.NotifyFormat.TEXT
    return service, apprise_jobs.Finding(scheme=scheme, service=name)


def find(url: str) -> apprise_jobs.Finding:
    """What Apprise makes of ``url``; nothing is sent."""
    return open_service(url)[1]


def _asset() -> apprise.AppriseAsset:
    return apprise.AppriseAsset(
        app_id="relay",
        app_desc="relay",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        service_timeout=0,
        http_redirects=False,
        storage_mode="memory",
        pgp_autogen=False,
        pem_autogen=False,
    )


def _malformed(url: str) -> str | None:
    if any(character.isspace() or not character.isprintable() for character in url):
        return "a URL holds no blanks or control characters"
    found = _SCHEME.match(url)
    if found is None:
        return "a URL starts with a scheme such as slack:// or https://"
    if "\\" in re.split(r"[/?#]", url[found.end() :], maxsplit=1)[0]:
        return f"programs read a backslash in the host differently (rule {network.Rule.UNREADABLE})"
    if re.search(r",\s*[A-Za-z][A-Za-z0-9]*://", url):
        return "one destination has one URL"
    return None


def _not_understood(url: str, scheme: str) -> str:
    host = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    if not host.startswith("["):
        host = host.partition(":")[0]
    if network.literal(host) is not None or (host and not network.readable(host)):
        return (
            f"Apprise does not understand the host of this {scheme}:// URL (rule {network.Rule.UNREADABLE}); "
            "write a plain ASCII name or address"
        )
    return f"Apprise does not understand this {scheme}:// URL"


def _refused_arguments(url: str, parsed: dict[str, Any]) -> list[str]:
    """Names of arguments that nobody may give, as Apprise would read them or as they stand."""
    names = [str(name) for name in parsed.get("qsd", {})]
    names += [f"+{name}" for name in parsed.get("qsd+", {})]
    names += [pair.partition("=")[0] for pair in re.split(r"[?&;]", url.partition("?")[2])]
    # Plugins decode the names of headers once more than those of other arguments.
    once = [urllib.parse.unquote(name) for name in names]
    twice = [urllib.parse.unquote(name) for name in once]
    given = {"".join(name.split()).lower() for name in (*names, *once, *twice)}
    return sorted(given & schemes.REFUSED_ARGUMENTS)


def main() -> None:
    """Answer a JSON object of URLs by name with the findings by name."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        urls = json.load(sys.stdin)
        findings = {name: dataclasses.asdict(find(url)) for name, url in urls.items()}
    json.dump(findings, sys.stdout)


if __name__ == "__main__":
    main()
