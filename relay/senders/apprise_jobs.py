"""What the daemon and its chat workers say to each other: plain values, and the functions to call.

Both sides import this module, so it imports neither Apprise nor an event loop. The functions run in
a worker and import the rest there; the daemon only names them. Read ``apprise_worker.py`` next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from relay.senders import network


class Reach(StrEnum):
    """How far a worker goes to tell somebody."""

    DIAL = "dial"
    RESOLVE = "resolve"
    """Names are resolved, and what would be dialled is judged; nothing is dialled."""
    READ = "read"
    """The same without asking for names: only addresses that are spelled out are judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker must know of the network. ``ca_pem`` is PEM text, trusted beside the usual CAs."""

    allow_private: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    ca_pem: str | None = None
    reach: Reach = Reach.DIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One message to one destination. ``limit`` is in seconds; the worker ends itself soon after."""

    url: str = field(repr=False)
    title: str
    text: str
    limit: float


class Fault(StrEnum):
    """What went wrong on the way, where no answer says it; webhooks know these too.

    What each means: ``verdicts.FAULTS``.
    """

    DNS_FAILED = "dns_failed"
    DNS_UNAVAILABLE = "dns_unavailable"
    """Nobody could be asked for the address, or nobody answered in time."""
    NO_ROUTE = "no_route"
    NO_RESOURCES = "no_resources"
    NO_CONNECTION = "no_connection"
    """All connections that relay allows itself to that host were in use (webhooks)."""
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_FAILED = "tls_failed"
    PROXY_FAILED = "proxy_failed"
    BAD_ANSWER = "bad_answer"
    CONNECTION_LOST = "connection_lost"
    TIMEOUT = "timeout"
    """The peer took the request and did not answer in time."""
    CRASHED = "crashed"
    """The service's code in Apprise failed."""
    NO_WORKER = "no_worker"
    WORKER_DIED = "worker_died"


class Step(StrEnum):
    """Which step of a mail was refused, where that changes what the refusal is about."""

    GREETING = "greeting"
    MESSAGE = "message"
    """The mail itself: its sender and recipients had been taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker saw of one send.

    ``accepted`` is Apprise's own opinion. ``status_code``, ``retry_after``, ``date`` and ``word`` are
    of the HTTP answer that decided: headers as they were sent, ``word`` the service's own short name
    of its error. ``smtp_code`` is that of the refusal, ``smtp_step`` what it refused. ``rule`` is the
    address rule that hit, ``problem`` says why the URL cannot be used at all. ``None`` means that there
    was no such thing. ``reached`` says that an address was allowed and about to be dialled, where
    ``Reach`` forbade only that. ``private`` says that a peer is not known to be public.
    """

    accepted: bool
    status_code: int | None = None
    smtp_code: int | None = None
    smtp_step: Step | None = None
    retry_after: str | None = None
    date: str | None = None
    word: str | None = None
    fault: Fault | None = None
    rule: network.Rule | None = None
    problem: str | None = None
    reached: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What Apprise makes of a URL.

    ``scheme`` is the service's, such as ``slack`` (for a service's own https address too), and
    ``service`` its display name; both are ``None`` when Apprise does not know the URL. ``problem`` is
    one line on why it cannot be used, without any part of the URL but scheme and argument names.
    """

    scheme: str | None = None
    service: str | None = None
    problem: str | None = None


def prepare(surroundings: Surroundings) -> None:
    """Make this process a worker: called once in each, before its first job."""
    from relay.senders import apprise_worker

    apprise_worker.prepare(surroundings)


def send(job: Job) -> Report:
    """Send one message from this worker."""
    from relay.senders import apprise_worker

    return apprise_worker.send(job)
