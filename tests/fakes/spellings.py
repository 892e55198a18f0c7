"""Spellings of places that relay must not reach, as data: what is written, and the rule that hits.

Every way a URL comes in and every way something is sent is run over the same table
(``tests/acceptance/test_addresses.py``). Names are those that ``tests/fakes/dialling.py`` answers for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.senders.network import Rule

LOOPBACK, PRIVATE, METADATA, UNREADABLE = Rule.LOOPBACK, Rule.PRIVATE, Rule.METADATA, Rule.UNREADABLE


@dataclass(frozen=True)
class Spelling:
    """One authority (host, with userinfo where that is the trick), without port.

    ``rule`` is the rule that hits. ``apprise`` is what hits where Apprise reads the host otherwise: it
    takes no host outside ASCII, and few of IPv4's spellings. ``late`` says that Apprise takes it for a
    name, so that it is refused only when it is dialled.
    """

    host: str
    rule: Rule
    apprise: Rule | None = None
    late: bool = False


@dataclass(frozen=True)
class Case:
    """A URL and the rule that hits it.

    ``usable`` says that a destination may be configured with it, ``by_name`` that only resolving shows
    where it leads.
    """

    url: str
    rule: Rule
    usable: bool
    by_name: bool


def cases(spellings: Iterable[Spelling], *, port: int) -> list[Case]:
    """Every spelling as a webhook and in an Apprise URL."""
    found = []
    for spelling in spellings:
        end = f"{spelling.host}:{port}/secret"
        by_name = spelling.host.rpartition("@")[2].rstrip(".") in ANSWERS
        chat = spelling.apprise or spelling.rule
        found.append(Case(f"http://{end}", spelling.rule, spelling.rule is not UNREADABLE, by_name))
        found.append(Case(f"json://{end}", chat, chat is not UNREADABLE or spelling.late, by_name))
    return found


SPELLINGS = [
    # IPv4, as it is and as C libraries read it.
    Spelling("127.0.0.1", LOOPBACK),
    Spelling("127.8.8.8", LOOPBACK),
    Spelling("127.1", LOOPBACK, UNREADABLE),
    Spelling("127.0.1", LOOPBACK, UNREADABLE),
    Spelling("2130706433", LOOPBACK),
    Spelling("017700000001", LOOPBACK),
    Spelling("0x7f000001", LOOPBACK),
    Spelling("0X7F000001", LOOPBACK),
    Spelling("0177.0.0.1", LOOPBACK, UNREADABLE),
    Spelling("0177.0.01", LOOPBACK, UNREADABLE),
    Spelling("00000177.0.0.1", LOOPBACK, UNREADABLE),
    Spelling("0x7f.0.0.1", LOOPBACK, UNREADABLE),
    Spelling("0x7f.0x0.0x0.0x1", LOOPBACK),
    Spelling("127.0.0.0x1", LOOPBACK, UNREADABLE),
    Spelling("0x7f.1", LOOPBACK, UNREADABLE),
    Spelling("127.0.0.1.", LOOPBACK),
    Spelling("10.0.0.1", PRIVATE),
    Spelling("167772161", PRIVATE),
    Spelling("012.0.0.1", PRIVATE),
    Spelling("0xa.1", PRIVATE, UNREADABLE),
    Spelling("172.16.0.1", PRIVATE),
    Spelling("192.168.0.1", PRIVATE),
    Spelling("0300.0250.0.1", PRIVATE, UNREADABLE),
    Spelling("100.64.0.1", Rule.SHARED),
    Spelling("169.254.169.254", METADATA),
    Spelling("2852039166", METADATA),
    Spelling("0xa9fea9fe", METADATA),
    Spelling("0251.0376.0251.0376", METADATA, UNREADABLE),
    Spelling("169.254.43518", METADATA),
    Spelling("100.100.100.200", METADATA),
    Spelling("168.63.129.16", METADATA),
    Spelling("192.0.0.192", METADATA),
    Spelling("0.0.0.0", Rule.UNSPECIFIED),
    Spelling("0", Rule.UNSPECIFIED, UNREADABLE),
    Spelling("255.255.255.255", Rule.BROADCAST),
    Spelling("4294967295", Rule.BROADCAST),
    Spelling("224.0.0.1", Rule.MULTICAST),
    Spelling("240.0.0.1", Rule.RESERVED),
    Spelling("192.0.2.1", Rule.SPECIAL),
    Spelling("198.18.0.1", Rule.SPECIAL),
    # IPv6, and IPv4 within it.
    Spelling("[::1]", LOOPBACK),
    Spelling("[0:0:0:0:0:0:0:1]", LOOPBACK),
    Spelling("[0000:0000:0000:0000:0000:0000:0000:0001]", LOOPBACK),
    Spelling("[::]", Rule.UNSPECIFIED),
    Spelling("[::ffff:7f00:1]", LOOPBACK),
    Spelling("[::ffff:127.0.0.1]", LOOPBACK, UNREADABLE),
    Spelling("[::ffff:0:7f00:1]", LOOPBACK),
    Spelling("[::7f00:1]", LOOPBACK),
    Spelling("[::ffff:a9fe:a9fe]", METADATA),
    Spelling("[::FFFF:A9FE:A9FE]", METADATA, UNREADABLE),
    Spelling("[64:ff9b::7f00:1]", LOOPBACK),
    Spelling("[64:ff9b::a9fe:a9fe]", METADATA),
    Spelling("[64:ff9b:1::a00:1]", PRIVATE),
    Spelling("[64:ff9b:1:a9fe:a9:fe00:808:808]", METADATA),
    Spelling("[2002:7f00:1::]", LOOPBACK),
    Spelling("[2002:a9fe:a9fe::1]", METADATA),
    Spelling("[2001:0:808:808::80ff:fffe]", LOOPBACK),
    Spelling("[2001:0:a9fe:a9fe::f7f7:f7f7]", METADATA),
    Spelling("[2606:4700::5efe:7f00:1]", LOOPBACK),
    Spelling("[2606:4700::200:5efe:a9fe:a9fe]", METADATA),
    Spelling("[fd00:ec2::254]", METADATA),
    Spelling("[fd00:ec2::23]", METADATA),
    Spelling("[fd12:3456::1]", Rule.UNIQUE_LOCAL),
    Spelling("[fe80::1]", Rule.LINK_LOCAL),
    Spelling("[fe80::1%25lo]", Rule.LINK_LOCAL, UNREADABLE),
    Spelling("[::1%25lo]", LOOPBACK, UNREADABLE),
    Spelling("[::1%lo]", LOOPBACK, UNREADABLE),
    Spelling("[fec0::1]", Rule.RESERVED),
    Spelling("[ff02::1]", Rule.MULTICAST),
    Spelling("[2001:db8::1]", Rule.SPECIAL),
    # Digits and dots of other scripts, which IDNA makes ASCII.
    Spelling("127。0。0。1", LOOPBACK, UNREADABLE),
    Spelling("127．0．0．1", LOOPBACK, UNREADABLE),
    Spelling("127｡0｡0｡1", LOOPBACK, UNREADABLE),
    Spelling("１２７.0.0.1", LOOPBACK, UNREADABLE),
    Spelling("①②⑦.⓪.⓪.①", LOOPBACK, UNREADABLE),
    Spelling("𝟏𝟐𝟕.𝟎.𝟎.𝟏", LOOPBACK, UNREADABLE),
    Spelling("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", LOOPBACK, UNREADABLE),
    # What stands before the @ is not the host.
    Spelling("8.8.8.8@127.0.0.1", LOOPBACK),
    Spelling("public.test:80@127.0.0.1", LOOPBACK),
    Spelling("public.test%2f@127.0.0.1", LOOPBACK),
    # Hosts that programs read differently.
    Spelling("127%2e0%2e0%2e1", UNREADABLE),
    Spelling("%31%32%37.0.0.1", UNREADABLE),
    Spelling("%6c%6f%63%61%6c%68%6f%73%74", UNREADABLE),
    Spelling("127.0.0.1%00", UNREADABLE),
    Spelling("public.test\\@127.0.0.1", UNREADABLE),
    Spelling("127.0.0.1\\@public.test", UNREADABLE),
    Spelling("4294967297", UNREADABLE, late=True),
    Spelling("0x17f000001", UNREADABLE, late=True),
    Spelling("127.0.0.256", UNREADABLE),
    Spelling("127.0.0.08", UNREADABLE, late=True),
    # This machine's names.
    Spelling("localhost", LOOPBACK),
    Spelling("LOCALHOST", LOOPBACK),
    Spelling("localhost.", LOOPBACK),
    Spelling("www.localhost", LOOPBACK),
    # Names that lead there. Which address is dialled is chance, so one bad one is enough.
    Spelling("loopback.test", LOOPBACK),
    Spelling("loopback.test.", LOOPBACK),
    Spelling("private.test", PRIVATE),
    Spelling("xn--mller-kva.example", LOOPBACK),
    Spelling("metadata.test", METADATA),
    Spelling("mapped.test", LOOPBACK),
    Spelling("nat64.test", METADATA),
    Spelling("one-of-two.test", PRIVATE),
    Spelling("last-of-three.test", METADATA),
]

REBINDING = "rebinding.test"
"""Public when it is looked at first, this machine from then on."""

REDIRECTS = [
    "http://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2130706433/",
    "//[::1]/",
    "http://metadata.test/",
]
"""Where an answer of an allowed receiver points to."""

ANSWERS: dict[str, list[str]] = {
    "public.test": ["8.8.8.8"],
    "loopback.test": ["127.0.0.1"],
    "private.test": ["10.0.0.1"],
    "xn--mller-kva.example": ["127.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::a9fe:a9fe"],
    "one-of-two.test": ["8.8.8.8", "10.0.0.1"],
    "last-of-three.test": ["8.8.8.8", "2606:4700::1111", "169.254.169.254"],
}
"""What names resolve to."""
