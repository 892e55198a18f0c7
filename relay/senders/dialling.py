"""How receivers are reached: the ways out of the daemon, gathered in one value.

Whether an address may be dialled is decided elsewhere, on what comes from here and right before it
is used (``webhook.WebhookClient``, ``apprise_guard.py``): whatever is put in here is judged too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp.abc

from relay import lookups
from relay.senders import apprise_jobs

LOOKUPS: Final = 32
"""Names of receivers that are looked up at once; those that hang get half of it (``lookups.py``)."""

AddressInfo = tuple[Any, ...]
"""As ``socket.getaddrinfo`` gives it: family, type, protocol, canonical name, socket address."""


def open_socket(info: AddressInfo) -> socket.socket:
    """A socket that can be connected to ``info``."""
    family, kind, protocol, *_ = info
    return socket.socket(family=family, type=kind, proto=protocol)


def resolver() -> aiohttp.abc.AbstractResolver:
    """The system's, in threads that nothing but lookups of receivers waits for."""
    return lookups.Resolver("receivers", threads=LOOKUPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """What resolves names and opens sockets.

    ``resolver`` is called once, in the running loop; ``open_socket`` for each connection of a webhook,
    with the very address that is connected to next. ``prepare`` makes a process a chat worker, and
    with it everything that worker dials; it must be picklable.
    """

    resolver: Callable[[], aiohttp.abc.AbstractResolver] = resolver
    open_socket: Callable[[AddressInfo], socket.socket] = open_socket
    prepare: Callable[[apprise_jobs.Surroundings], None] = apprise_jobs.prepare


SYSTEM = Dialling()
"""The system's own resolver and sockets."""
