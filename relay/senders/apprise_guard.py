"""Stands between Apprise's plugins and the network, inside a chat worker.

It judges every address at the moment it is dialled, bounds what is read of an answer, never follows
a redirect, and notes down what Apprise itself does not tell: status, Retry-After, the kind of
failure, the SMTP code. It never notes a URL: for many services that is the secret.

A worker runs one job at a time in one thread, so the notes are plain module state. Everything here
changes the process it runs in for good: it must never be imported by the daemon.
"""

from __future__ import annotations

import errno
import functools
import json
import smtplib
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import requests
import urllib3.exceptions
import urllib3.util
import urllib3.util.ssl_

from relay.senders import apprise_jobs, faults, network, words

ANSWER_BYTES_MAX: Final = 65536
"""Of an answer this much is read; the services' own answers are below 10 kB."""

ASKED_MAX: Final = 7 * 86400
"""Seconds that a body may ask to wait; more is nonsense."""

ANSWERS_MAX: Final = 32
"""Answers noted per send: one per target of the URL, as a rule one."""

_PUBLIC: Final = network.AddressPolicy()
"""Refuses whatever is not a public address."""

_DIALLING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


class Blocked(OSError):
    """An address may not be dialled. An ``OSError``, so that plugins take it as a failed connection."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "address refused")


@dataclass(slots=True)
class Answer:
    """What one HTTP answer said."""

    status: int
    retry_after: str | None
    date: str | None
    word: str | None
    asked: float | None
    """Seconds that the body asks to wait (Telegram, Discord), or ``None``."""


@dataclass(slots=True)
class Notes:
    """What was seen during one send; the first failure of each kind stays."""

    answers: list[Answer] = field(default_factory=list)
    fault: apprise_jobs.Fault | None = None
    way: apprise_jobs.Fault | None = None
    """How it stands with the peer last dialled: what would be told if nothing more came of it. Of the
    protocols that are not watched any closer (IRC, APRS, Nostr) it is all that is known. ``None``: nobody
    was looked for yet, or the last one answered."""
    smtp_code: int | None = None
    smtp_step: apprise_jobs.Step | None = None
    rule: network.Rule | None = None
    reached: bool = False
    """Whether an address was allowed and not dialled, because this worker dials nothing."""
    private: bool = False
    """Whether a peer was dialled that is not known to be public: a private address, or the proxy."""

    def failed(self, fault: apprise_jobs.Fault) -> None:
        """Note a failure on the way."""
        self.fault = self.fault or fault

    def answered(self, answer: Answer) -> None:
        """Note an answer."""
        self.way = None
        if len(self.answers) < ANSWERS_MAX:
            self.answers.append(answer)

    def refused(self, code: int, step: apprise_jobs.Step | None) -> None:
        """Note the code of an SMTP server."""
        if self.smtp_code is None:
            self.smtp_code, self.smtp_step = code, step

    def deciding(self) -> Answer | None:
        """The first answer that was not a success, else the last one."""
        bad = (answer for answer in self.answers if not 200 <= answer.status < 300 or answer.word)
        return next(bad, self.answers[-1] if self.answers else None)


notes = Notes()


def begin() -> Notes:
    """Forget the last send; the new notes are filled while plugins run."""
    global notes
    notes = Notes()
    return notes


def install(surroundings: apprise_jobs.Surroundings) -> None:
    """Put the guards in place, once per process."""
    policy = network.AddressPolicy(surroundings.allow_private)
    _guard_addresses(policy, proxy=_proxy(surroundings.proxy), reach=surroundings.reach)
    _watch_connections()
    _guard_http(policy, surroundings.ca_pem)
    _guard_smtp()
    if surroundings.ca_pem:
        _trust(surroundings.ca_pem)


def _proxy(url: str | None) -> tuple[str, int] | None:
    """Host and port of the proxy, as requests dials it."""
    if url is None:
        return None
    parsed = urllib.parse.urlsplit(url)
    return str(parsed.hostname), parsed.port or (443 if parsed.scheme == "https" else 80)


def _refuse(rule: network.Rule) -> NoReturn:
    notes.rule = notes.rule or rule
    raise Blocked


def _guard_addresses(
    policy: network.AddressPolicy, *, proxy: tuple[str, int] | None, reach: apprise_jobs.Reach
) -> None:
    """Judge names when they are resolved and addresses when they are dialled.

    The audit hook is the last line: it sees every connect of Python code, whoever makes it, with the
    very address. The proxy is the operator's own and is not judged, at its own port only: mail and
    other protocols do not use it, and may not reach that machine's other ports by naming it.
    """
    resolve = socket.getaddrinfo
    proxy_addresses: set[tuple[str, int]] = set()

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        to_proxy = (host, port) == proxy
        if to_proxy and reach is not apprise_jobs.Reach.DIAL:
            notes.reached = True
            raise Blocked
        if not to_proxy and isinstance(host, str) and not network.readable(host):
            _refuse(network.Rule.UNREADABLE)
        if reach is apprise_jobs.Reach.READ:
            if (rule := policy.refusal_unresolved(str(host))) is not None:
                _refuse(rule)
            notes.reached = True
            raise socket.gaierror(socket.EAI_NONAME, "names are not resolved")
        try:
            found = resolve(host, port, *args, **kwargs)
        except OSError as error:
            notes.way = connect_fault(error)
            raise
        notes.way = apprise_jobs.Fault.CONNECT_FAILED
        addresses = [str(info[4][0]) for info in found]
        if to_proxy:
            proxy_addresses.update((address, port) for address in addresses)
        elif (rule := policy.refusal_of_any(addresses)) is not None:
            _refuse(rule)
        return found

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event not in _DIALLING or args[1] is None:
            return
        # Unix sockets have a path here, and a name that nobody resolved cannot be judged.
        address, port = (str(args[1][0]), args[1][1]) if isinstance(args[1], tuple) else ("", 0)
        to_proxy = (address, port) in proxy_addresses
        if not to_proxy and (rule := policy.refusal(address)) is not None:
            _refuse(rule)
        notes.private |= to_proxy or _PUBLIC.refusal(address) is not None
        if reach is not apprise_jobs.Reach.DIAL:
            notes.reached = True
            raise Blocked
        notes.way = apprise_jobs.Fault.CONNECT_FAILED

    socket.getaddrinfo = getaddrinfo
    sys.addaudithook(audit)


def _watch_connections() -> None:
    """Note how connections and handshakes end, for protocols of which nothing else is known."""
    connect, shake_hands = socket.socket.connect, ssl.SSLSocket.do_handshake

    def watched_connect(self: socket.socket, address: Any) -> None:
        try:
            connect(self, address)
        except (Blocked, BlockingIOError):
            raise
        except OSError as error:
            notes.way = connect_fault(error)
            raise
        # What comes next is the peer's to say, and only its protocol's code would understand it.
        notes.way = apprise_jobs.Fault.BAD_ANSWER

    def watched_handshake(self: ssl.SSLSocket, *args: Any, **kwargs: Any) -> None:
        try:
            shake_hands(self, *args, **kwargs)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            notes.way = connect_fault(error)
            raise

    socket.socket.connect = watched_connect  # type: ignore[method-assign, assignment]
    ssl.SSLSocket.do_handshake = watched_handshake  # type: ignore[method-assign]


def connect_fault(error: OSError) -> apprise_jobs.Fault:
    """What kind of failure it is that a name was not resolved, or a connection not opened."""
    ours = faults.own(error)
    if ours is not None:
        return ours
    if isinstance(error, ssl.SSLError):
        return apprise_jobs.Fault.TLS_FAILED
    if isinstance(error, socket.gaierror):
        return apprise_jobs.Fault.DNS_FAILED
    slow = isinstance(error, TimeoutError)
    return apprise_jobs.Fault.CONNECT_TIMEOUT if slow else apprise_jobs.Fault.CONNECT_FAILED


def _guard_http(policy: network.AddressPolicy, ca_pem: str | None) -> None:
    adapter = requests.adapters.HTTPAdapter
    original_send: Callable[..., requests.Response] = adapter.send
    original_verify: Callable[..., None] = adapter.cert_verify

    def send(self: Any, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if notes.answers and notes.answers[-1].status in (429, 503):
            # Discord's plugin would send again at once: waiting is the dispatcher's business.
            raise requests.ConnectionError("asked to slow down")
        if kwargs.get("proxies"):
            # The proxy resolves names; an address that is spelled out is judged here. The host is
            # the one that the proxy is sent, as urllib3 reads it.
            host = urllib3.util.parse_url(str(request.url)).host or ""
            if (rule := policy.refusal_unresolved(host)) is not None:
                notes.rule = notes.rule or rule
                raise requests.ConnectionError("address refused")
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = original_send(self, request, **{**kwargs, "stream": True})
        except (OSError, urllib3.exceptions.HTTPError) as error:
            notes.failed(http_fault(error))
            raise
        content = _read(response)
        response._content = content
        response._content_consumed = True
        response.close()
        notes.answered(_answer(response, content))
        return response

    def cert_verify(self: Any, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # Whom to trust is no plugin's to say: no URL may switch verification off.
        original_verify(self, conn, url, True, cert)
        if url.lower().startswith("https:"):
            usual = Path(conn.ca_certs or conn.ca_cert_dir)
            conn.conn_kw["ssl_context"] = _tls(usual, usual.stat().st_mtime_ns, ca_pem)

    adapter.send = send  # type: ignore[method-assign, assignment]
    adapter.cert_verify = cert_verify  # type: ignore[method-assign]
    requests.Session.get_redirect_target = lambda self, resp: None  # type: ignore[method-assign]


@functools.lru_cache(maxsize=1)
def _tls(usual: Path, changed: int, ca_pem: str | None) -> ssl.SSLContext:
    """Who is trusted over https: the ``usual`` authorities (a file or directory) and those of ``ca_pem``.

    Every send has connections of its own, and the usual authorities take longer to read than all the rest
    of it: they are read once, and again when they ``changed`` (when that was last, in nanoseconds).
    """
    context = urllib3.util.ssl_.create_urllib3_context()
    if usual.is_dir():
        context.load_verify_locations(capath=usual)
    else:
        context.load_verify_locations(cafile=usual)
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    # urllib3 has the usual ones read for every connection, into whatever context it is given.
    context.load_verify_locations = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return context


def _read(response: requests.Response) -> bytes:
    """The first bytes of the body, undecoded. A body that breaks off does not undo the status."""
    try:
        return bytes(response.raw.read(ANSWER_BYTES_MAX, decode_content=False))
    except TimeoutError:
        notes.failed(apprise_jobs.Fault.TIMEOUT)
    except urllib3.exceptions.ReadTimeoutError:
        notes.failed(apprise_jobs.Fault.TIMEOUT)
    except (OSError, urllib3.exceptions.HTTPError):
        notes.failed(apprise_jobs.Fault.CONNECTION_LOST)
    return b""


def _answer(response: requests.Response, content: bytes) -> Answer:
    body: object = None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        text = content[: words.WORD_LENGTH_MAX + 1].decode("ascii", "replace").strip()
        body = {"error": text} if response.status_code >= 400 else None
    members: dict[str, Any] = body if isinstance(body, dict) else {}
    parameters = members.get("parameters")
    asked = (parameters if isinstance(parameters, dict) else members).get("retry_after")
    return Answer(
        status=response.status_code,
        retry_after=response.headers.get("Retry-After"),
        date=response.headers.get("Date"),
        word=words.said(members, status=response.status_code),
        asked=_seconds(asked),
    )


def _seconds(asked: object) -> float | None:
    """A number that a body asks to wait for; ``None`` for what is no number of seconds to come."""
    if not isinstance(asked, (int, float)) or isinstance(asked, bool):
        return None
    return float(min(asked, ASKED_MAX)) if asked > 0 else None  # NaN compares false


def http_fault(error: BaseException) -> apprise_jobs.Fault:
    """What kind of failure an exception of requests is.

    The outer exceptions are vague (a refused connection, a failed lookup and a reset are all
    ``ConnectionError``), so what they wrap is looked at too.
    """
    causes = list(_causes(error))
    ours = next((fault for cause in causes if (fault := faults.own(cause)) is not None), None)
    if ours is not None:
        return ours

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if among(requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError):
        return apprise_jobs.Fault.TLS_FAILED
    if among(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return apprise_jobs.Fault.DNS_FAILED
    if among(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        # urllib3's error of a failed connection inherits from its timeout.
        if among(urllib3.exceptions.NewConnectionError):
            return apprise_jobs.Fault.CONNECT_FAILED
        return apprise_jobs.Fault.CONNECT_TIMEOUT
    if among(requests.exceptions.ProxyError):
        return apprise_jobs.Fault.PROXY_FAILED
    if among(requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return apprise_jobs.Fault.TIMEOUT
    if among(urllib3.exceptions.NewConnectionError, ConnectionRefusedError):
        return apprise_jobs.Fault.CONNECT_FAILED
    return apprise_jobs.Fault.CONNECTION_LOST


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and everything it wraps, as cause, context, argument or urllib3's ``reason``."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(found) < 32:
        item = queue.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    return found


def _guard_smtp() -> None:
    """Note how the four steps of a mail end; before ``sendmail`` nothing can have been delivered."""
    for step in ("connect", "starttls", "login", "sendmail"):
        setattr(smtplib.SMTP, step, _watched(getattr(smtplib.SMTP, step), step))


def _watched(step: Callable[..., Any], name: str) -> Callable[..., Any]:
    sending = name == "sendmail"

    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            result = step(*args, **kwargs)
        except OSError as error:  # as all of smtplib's are
            _note_smtp(error, sending=sending)
            raise
        if sending and result:
            notes.refused(min(code for code, _ in result.values()), None)
        elif name == "connect" and result[0] != 220:
            # Connecting gives back what it was greeted with; only its caller makes an error of that.
            if 400 <= result[0] < 600:
                notes.refused(result[0], apprise_jobs.Step.GREETING)
            else:
                notes.failed(apprise_jobs.Fault.BAD_ANSWER)
        return result

    return watched


def _note_smtp(error: OSError, *, sending: bool) -> None:
    code: object = getattr(error, "smtp_code", None)
    if isinstance(error, smtplib.SMTPRecipientsRefused) and error.recipients:
        code = min(code for code, _ in error.recipients.values())
    if isinstance(code, int) and 400 <= code < 600:
        of_mail = isinstance(error, smtplib.SMTPDataError)
        notes.refused(code, apprise_jobs.Step.MESSAGE if of_mail else None)
        return
    fault = connect_fault(error)
    if sending and fault is apprise_jobs.Fault.CONNECT_TIMEOUT:
        fault = apprise_jobs.Fault.TIMEOUT
    elif sending and fault is apprise_jobs.Fault.CONNECT_FAILED:
        fault = apprise_jobs.Fault.CONNECTION_LOST
    notes.failed(fault)


def _trust(ca_pem: str) -> None:
    """Let contexts that plugins make themselves (SMTP) trust the private CA too."""
    original = ssl.create_default_context

    def create_default_context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = original(*args, **kwargs)
        context.load_verify_locations(cadata=ca_pem)
        return context

    ssl.create_default_context = create_default_context
