"""What the engine knows of telling: the ``Sender`` protocol. Concrete senders are siblings.

A sender is bound to one destination. It knows the URL and its secrets and shows neither. It is
asked to tell one notification once: retries, pace and concurrency belong to the dispatcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from relay.domain import model


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Seats that several senders share, because they share something scarce.

    ``seats`` sends may be in flight at once, of which at most ``seats_hanging`` for destinations
    whose last send used up its time limit.
    """

    name: str
    seats: int
    seats_hanging: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSpec:
    """What a destination's sender is made of.

    ``secrets`` are ``whsec_…``, newest first, ``signing_key`` is a ``whsk_…``; a webhook needs one of
    the two kinds, and may have both. ``ends`` are when each secret stops signing (epoch seconds, ``None``
    for never); empty where none does. ``headers`` go along with every webhook; their values may be
    secrets. ``timeout`` is in seconds; ``None`` means the default of its kind, for ``concurrency`` too.
    """

    name: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    ends: tuple[float | None, ...] = ()
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One notification, to be told once. ``attempt`` counts from 1."""

    delivery_id: str
    type: str
    body: bytes
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The peer took it. ``status_code`` is HTTP's or SMTP's, or ``None`` where there is none.

    ``disable`` says that it wants no more: it is to be disabled, although this message was delivered.
    """

    status_code: int | None = None
    detail: str | None = None
    disable: bool = False


class Sender(Protocol):
    """Tells one destination."""

    @property
    def name(self) -> str:
        """The destination's name."""

    @property
    def format(self) -> model.Format:
        """What bodies it sends."""

    @property
    def address(self) -> str:
        """Scheme and host, such as ``https://example.com`` or ``slack://``: all that may be shown."""

    @property
    def time_limit(self) -> float:
        """Seconds after which ``send`` has certainly returned or raised."""

    @property
    def concurrency(self) -> int:
        """How many sends to this destination may be in flight at once."""

    @property
    def capacity(self) -> Capacity:
        """The seats shared with other senders of the same kind."""

    async def send(self, outgoing: Outgoing) -> Accepted:
        """Tell it once.

        Raises ``errors.SendError`` (with the decision) when it was not told or that is unknown.
        Cancelling it stops the send; nothing of it goes on in the background.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A sender that may be used. ``service`` is what it is sent as, such as ``signed webhook`` or ``Slack``.

    ``timeout`` is the seconds that it gives one attempt, ``None`` of one that makes none. ``public_key`` is
    the ``whpk_…`` of one that is signed with ``v1a``.
    """

    sender: Sender
    service: str
    timeout: float | None = None
    public_key: str | None = None


class Opener(Protocol):
    """Makes senders."""

    async def open(self, *specs: DestinationSpec) -> list[Opened]:
        """Check every destination and make its sender, in order. Nothing is dialled.

        Raises ``errors.DestinationRefused`` for the first that cannot be used (``errors.SecretMissing``
        for a webhook that nothing signs), ``errors.ConfigurationError`` when that cannot be found out.
        """
        ...

    def make_secret(self, randomness: bytes) -> str:
        """A ``whsec_…`` of 32 random bytes."""
        ...

    def make_signing_key(self, randomness: bytes) -> str:
        """A ``whsk_…`` of 32 random bytes."""
        ...
