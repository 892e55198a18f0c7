"""Which addresses may be dialled: a pure decision over one concrete address.

Two tiers. *Forbidden* addresses (metadata services, link-local, multicast, reserved …) are never
dialled, whatever is configured. *Private* ones (loopback, RFC 1918, carrier-grade NAT, unique
local …) only where a range of ``network.allow_private`` contains them. IPv6 addresses that carry
an IPv4 address (mapped, NAT64, 6to4, Teredo …) are unwrapped and judged by what they carry.

This module does no I/O and imports nothing heavy: the chat workers load it too. Who dials asks it
at the moment of connecting (``webhook.py``, ``apprise_guard.py``), because a name that was harmless
when it was configured may resolve to anything later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from relay.domain import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rule(StrEnum):
    """Why an address is refused. Shown to users."""

    METADATA = "metadata"
    LINK_LOCAL = "link_local"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    BROADCAST = "broadcast"
    RESERVED = "reserved"
    UNREADABLE = "unreadable"
    """Neither an address nor a plain name: nothing is dialled that cannot be judged."""
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "shared"
    """Carrier-grade NAT, RFC 6598."""
    UNIQUE_LOCAL = "unique_local"
    SPECIAL = "special"
    """Documentation, benchmarking, protocol assignments and local NAT64."""

    @property
    def openable(self) -> bool:
        """Whether ``network.allow_private`` can open it."""
        return self in _OPENABLE


_OPENABLE: Final = frozenset({Rule.LOOPBACK, Rule.PRIVATE, Rule.SHARED, Rule.UNIQUE_LOCAL, Rule.SPECIAL})


def _table(*rows: tuple[str, Rule]) -> tuple[tuple[Network, Rule], ...]:
    return tuple((ipaddress.ip_network(text), rule) for text, rule in rows)


_V4: Final = _table(
    # Forbidden. Single metadata addresses come first, so that they are called what they are.
    ("100.100.100.200/32", Rule.METADATA),  # Alibaba Cloud
    ("168.63.129.16/32", Rule.METADATA),  # Azure; a public address
    ("192.0.0.192/32", Rule.METADATA),  # Oracle Cloud
    ("169.254.0.0/16", Rule.METADATA),  # link-local; the usual place of metadata services
    ("0.0.0.0/8", Rule.UNSPECIFIED),  # "this network": Linux dials itself
    ("255.255.255.255/32", Rule.BROADCAST),
    ("224.0.0.0/4", Rule.MULTICAST),
    ("240.0.0.0/4", Rule.RESERVED),
    ("192.88.99.0/24", Rule.RESERVED),  # 6to4 relays, withdrawn
    # Openable.
    ("127.0.0.0/8", Rule.LOOPBACK),
    ("10.0.0.0/8", Rule.PRIVATE),
    ("172.16.0.0/12", Rule.PRIVATE),
    ("192.168.0.0/16", Rule.PRIVATE),
    ("100.64.0.0/10", Rule.SHARED),
    ("192.0.0.0/24", Rule.SPECIAL),
    ("192.0.2.0/24", Rule.SPECIAL),
    ("198.18.0.0/15", Rule.SPECIAL),
    ("198.51.100.0/24", Rule.SPECIAL),
    ("203.0.113.0/24", Rule.SPECIAL),
)

_V6: Final = _table(
    ("fd00:ec2::/32", Rule.METADATA),  # Amazon: metadata at ::254, credentials of pods at ::23
    ("fd20:ce::254/128", Rule.METADATA),  # Google Cloud
    ("fd00:42::42/128", Rule.METADATA),  # Scaleway
    ("::/128", Rule.UNSPECIFIED),
    ("fe80::/10", Rule.LINK_LOCAL),
    ("fec0::/10", Rule.RESERVED),  # site-local, withdrawn
    ("ff00::/8", Rule.MULTICAST),
    ("::1/128", Rule.LOOPBACK),
    ("fc00::/7", Rule.UNIQUE_LOCAL),
    ("64:ff9b:1::/48", Rule.SPECIAL),
    ("2001:2::/48", Rule.SPECIAL),
    ("2001:db8::/32", Rule.SPECIAL),
    ("2001:10::/28", Rule.SPECIAL),
    ("2001:20::/28", Rule.SPECIAL),
    ("3fff::/20", Rule.SPECIAL),
)

_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
# Prefixes whose last 32 bits are the IPv4 address that is reached.
_V4_AT_THE_END: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::ffff:0:0/96",  # mapped
        "::ffff:0:0:0/96",  # translated (SIIT)
        "::/96",  # compatible, withdrawn
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use; judged as itself too
    )
)
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*|")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


class Unreadable(ValueError):
    """A URL whose host is not ``readable``. The text is one line that shows none of it."""


class AddressPolicy:
    """Decides whether an address may be dialled.

    ``allow_private`` holds CIDR ranges that open private addresses; none by default. A range
    never opens a forbidden address, however wide it is. Raises ``errors.ConfigurationError`` for
    one that is not a CIDR range.
    """

    __slots__ = ("_allowed",)

    def __init__(self, allow_private: Iterable[str] = ()) -> None:
        self._allowed = tuple(_range(text) for text in allow_private)

    def refusal(self, address: str | Address) -> Rule | None:
        """The rule that refuses ``address``, or ``None`` when it may be dialled.

        >>> AddressPolicy().refusal("::ffff:127.0.0.1")
        <Rule.LOOPBACK: 'loopback'>
        >>> AddressPolicy(["127.0.0.0/8"]).refusal("127.0.0.1") is None
        True
        """
        if isinstance(address, str):
            parsed = _parse(address)
            if parsed is None:
                return Rule.UNREADABLE
            address = parsed
        opened: Rule | None = None
        for judged in _judged(address):
            rule = _rule(judged)
            if rule is None or (rule.openable and self._opens(judged)):
                continue
            if not rule.openable:
                return rule
            opened = opened or rule
        return opened

    def refusal_unresolved(self, host: str) -> Rule | None:
        """The rule that refuses ``host`` without resolving it, or ``None`` where nothing can be said yet."""
        if not readable(host):
            return Rule.UNREADABLE
        address = spelled(host)
        return None if address is None else self.refusal(address)

    def refusal_of_any(self, addresses: Iterable[str | Address]) -> Rule | None:
        """The rule that refuses one of ``addresses``, a forbidding one first; ``None`` for none.

        A name is refused when any of its addresses is: which of them gets dialled is chance.
        """
        rules = [rule for address in addresses if (rule := self.refusal(address)) is not None]
        return min(rules, key=lambda rule: rule.openable, default=None)

    def _opens(self, address: Address) -> bool:
        return any(address.version == net.version and address in net for net in self._allowed)


def literal(host: str) -> Address | None:
    """The address that ``host`` spells, or ``None`` when it is a name that must be resolved.

    Knows every spelling that the C library dials without asking DNS: brackets, zone ids, and
    decimal, octal, hexadecimal and shortened IPv4; digits and dots of other scripts too, which
    become ASCII on the way to it.

    >>> literal("0x7f.1")
    IPv4Address('127.0.0.1')
    """
    text = _plain(host).strip("[]")
    parsed = _parse(text)
    if parsed is not None:
        return parsed
    text = text.rstrip(".")
    if not text or not all(part[:1].isdigit() for part in text.split(".")):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, UnicodeError):
        return None


def spelled(host: str) -> Address | None:
    """``literal``, and for the names that mean this machine everywhere (RFC 6761) its address.

    What is judged where nothing is resolved: before a proxy dials, and when a URL is looked at.

    >>> spelled("www.localhost.")
    IPv4Address('127.0.0.1')
    """
    name = _plain(host).rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    return literal(host)


def readable(host: str) -> bool:
    """Whether ``host`` is an address or a name that every program reads alike.

    It is not where it holds anything but letters, digits, dots, hyphens and underscores (percent
    signs above all), or ends like an IPv4 address without being one.

    >>> readable("hooks.example"), readable("127%2e0.0.1"), readable("256.0.0.1")
    (True, False, False)
    """
    if literal(host) is not None:
        return True
    last = host.rstrip(".").rpartition(".")[2].lower()
    return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(last) is None


def refused(host: str, rule: Rule) -> errors.AddressRefused:
    """The error that tells of a refusal; ``host`` must hold nothing secret."""
    hint = "network.allow_private can open it" if rule.openable else "it is never dialled"
    return errors.AddressRefused(f"the address of {host} is refused by the rule {rule}: {hint}", rule=rule)


def _plain(host: str) -> str:
    """``host`` with full-width, circled and similar characters as the ASCII that IDNA makes of them."""
    return host if host.isascii() else unicodedata.normalize("NFKC", host).replace("\u3002", ".")


def _range(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise errors.ConfigurationError(
            f"network.allow_private: {text!r} is not a CIDR range such as 10.0.0.0/8 or fd00::/8"
        ) from None


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return ipaddress.IPv6Address(int(address))
    return address


def _judged(address: Address) -> Iterator[Address]:
    """Every address that dialling ``address`` may reach: the ones it carries, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    bits = int(address)
    if bits <= 1:  # :: and ::1 are not IPv4-compatible addresses
        yield address
        return
    low = ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    if any(address in network for network in _V4_AT_THE_END):
        yield low
        if address in _LOCAL_NAT64:
            yield address
            yield from _metadata_within(bits)
    elif address in _6TO4:
        yield ipaddress.IPv4Address((bits >> 80) & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield ipaddress.IPv4Address((bits >> 64) & 0xFFFFFFFF)  # its server
        yield ipaddress.IPv4Address(~bits & 0xFFFFFFFF)  # its client, stored inverted
    else:
        yield address
        if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
            yield low


def _metadata_within(bits: int) -> Iterator[Address]:
    """Metadata addresses that a local NAT64 may carry elsewhere than at the end (RFC 6052, 2.2).

    Where its prefix ends is not known, so what stands at the other places is not believed to be an
    address unless it is one that must never be reached.
    """
    for length in (48, 56, 64):
        before = 64 - length
        # The carried address skips bits 64 to 71, which are reserved.
        high = (bits >> 64) & ((1 << before) - 1)
        carried = (high << (32 - before)) | ((bits >> (24 + before)) & ((1 << (32 - before)) - 1))
        address = ipaddress.IPv4Address(carried)
        if _rule(address) is Rule.METADATA:
            yield address


def _rule(address: Address) -> Rule | None:
    for network, rule in _V4 if address.version == 4 else _V6:
        if address in network:
            return rule
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return Rule.RESERVED
    return None
