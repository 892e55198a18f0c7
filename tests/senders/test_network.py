"""The address policy, by table. Nothing is dialled here: addresses are put to the deciding function."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.domain import errors
from relay.senders import network
from relay.senders.network import Rule

NOBODY = network.AddressPolicy()
EVERYTHING = network.AddressPolicy(["0.0.0.0/0", "::/0"])

FORBIDDEN = [
    ("169.254.169.254", Rule.METADATA),
    ("169.254.170.2", Rule.METADATA),
    ("100.100.100.200", Rule.METADATA),
    ("168.63.129.16", Rule.METADATA),
    ("192.0.0.192", Rule.METADATA),
    ("fd00:ec2::254", Rule.METADATA),
    ("fd00:ec2::23", Rule.METADATA),
    ("fd00:42::42", Rule.METADATA),
    ("fd20:ce::254", Rule.METADATA),
    ("0.0.0.0", Rule.UNSPECIFIED),
    ("0.1.2.3", Rule.UNSPECIFIED),
    ("::", Rule.UNSPECIFIED),
    ("224.0.0.1", Rule.MULTICAST),
    ("239.255.255.250", Rule.MULTICAST),
    ("ff02::1", Rule.MULTICAST),
    ("255.255.255.255", Rule.BROADCAST),
    ("240.0.0.1", Rule.RESERVED),
    ("192.88.99.1", Rule.RESERVED),
    ("fec0::1", Rule.RESERVED),
    ("100::1", Rule.RESERVED),
    ("4000::1", Rule.RESERVED),
    ("5f00::1", Rule.RESERVED),
    ("fe80::1", Rule.LINK_LOCAL),
    ("fe80::1%eth0", Rule.LINK_LOCAL),
]

PRIVATE = [
    ("127.0.0.1", Rule.LOOPBACK),
    ("127.255.255.254", Rule.LOOPBACK),
    ("::1", Rule.LOOPBACK),
    ("10.0.0.1", Rule.PRIVATE),
    ("172.16.0.1", Rule.PRIVATE),
    ("172.31.255.255", Rule.PRIVATE),
    ("192.168.1.1", Rule.PRIVATE),
    ("100.64.0.1", Rule.SHARED),
    ("fd12:3456::1", Rule.UNIQUE_LOCAL),
    ("192.0.2.1", Rule.SPECIAL),
    ("198.18.0.1", Rule.SPECIAL),
    ("2001:db8::1", Rule.SPECIAL),
    ("3fff::1", Rule.SPECIAL),
]

PUBLIC = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "168.63.129.17", "2606:4700::1111", "2a00:1450:4001::8a"]


def carriers(v4: str) -> list[str]:
    """IPv6 addresses that reach ``v4``."""
    bits = int(ipaddress.IPv4Address(v4))

    def made(value: int) -> str:
        return str(ipaddress.IPv6Address(value))

    def at_the_end(prefix: str) -> str:
        return made(int(ipaddress.IPv6Address(prefix)) | bits)

    return [
        at_the_end("::ffff:0:0"),
        at_the_end("::ffff:0:0:0"),
        at_the_end("64:ff9b::"),
        at_the_end("64:ff9b:1::"),
        made((0x2002 << 112) | (bits << 80) | 1),
        made((0x20010000 << 96) | (0x08080808 << 64) | (~bits & 0xFFFFFFFF)),
        made((0x20010000 << 96) | (bits << 64) | (~0x08080808 & 0xFFFFFFFF)),
        made(int(ipaddress.IPv6Address("2606:4700::")) | (0x5EFE << 32) | bits),
    ]


@pytest.mark.parametrize(("address", "rule"), FORBIDDEN)
def test_forbidden_is_forbidden_whatever_is_opened(address: str, rule: Rule) -> None:
    assert NOBODY.refusal(address) is rule
    assert EVERYTHING.refusal(address) is rule
    assert not rule.openable


@pytest.mark.parametrize(("address", "rule"), PRIVATE)
def test_private_is_opened_by_a_range_that_holds_it(address: str, rule: Rule) -> None:
    assert NOBODY.refusal(address) is rule
    assert rule.openable
    assert EVERYTHING.refusal(address) is None
    assert network.AddressPolicy([address]).refusal(address) is None
    assert network.AddressPolicy(["10.99.0.0/16", "fd99::/16"]).refusal(address) is rule


@pytest.mark.parametrize("address", PUBLIC)
def test_public_is_dialled(address: str) -> None:
    assert NOBODY.refusal(address) is None


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255"])
def test_what_carries_a_forbidden_address_is_forbidden(address: str) -> None:
    rule = NOBODY.refusal(address)
    for carrier in carriers(address):
        assert EVERYTHING.refusal(carrier) is rule, carrier


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.0.1"])
def test_what_carries_a_private_address_is_private(address: str) -> None:
    for carrier in [*carriers(address), f"::{address}"]:
        assert NOBODY.refusal(carrier) is not None, carrier
    opened = network.AddressPolicy(["127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"])
    assert opened.refusal(f"::ffff:{address}") is None


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_carrier_reaches_more_than_its_address(bits: int) -> None:
    address = str(ipaddress.IPv4Address(bits))
    if NOBODY.refusal(address) is not None:
        assert all(NOBODY.refusal(carrier) is not None for carrier in carriers(address))


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1))
def test_every_ipv6_address_is_judged(bits: int) -> None:
    address = ipaddress.IPv6Address(bits)
    if not address.is_global and NOBODY.refusal(address) is None:
        raise AssertionError(f"{address} is not global")


@pytest.mark.parametrize("text", ["", "example.com", "1.2.3", "fe80::zz", "/run/socket"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert EVERYTHING.refusal(text) is Rule.UNREADABLE


def test_one_bad_address_refuses_the_name() -> None:
    assert NOBODY.refusal_of_any(["8.8.8.8", "10.0.0.1"]) is Rule.PRIVATE
    assert NOBODY.refusal_of_any(["10.0.0.1", "169.254.169.254", "8.8.8.8"]) is Rule.METADATA
    assert NOBODY.refusal_of_any(["8.8.8.8"]) is None


@pytest.mark.parametrize(
    "spelling",
    "127.0.0.1 2130706433 0x7f000001 0x7f.0.0.1 0177.0.0.1 127.1 127.0.0.1. [::ffff:7f00:1] ::1".split(" "),  # noqa: SIM905 - one line reads better
)
def test_every_spelling_of_an_address_is_read(spelling: str) -> None:
    found = network.literal(spelling)
    assert found is not None
    assert NOBODY.refusal(found) is Rule.LOOPBACK


@pytest.mark.parametrize(
    "name", ["example.com", "localhost", "1.example", "a", "", "3com.com", "999.1.1.1.1"]
)
def test_names_are_not_addresses(name: str) -> None:
    assert network.literal(name) is None


@pytest.mark.parametrize(
    "host",
    "127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７.0.0.1 ①②⑦.⓪.⓪.① 0𝐱7f.1".split(" "),  # noqa: SIM905
)
def test_other_scripts_are_read_as_what_they_become(host: str) -> None:
    assert network.literal(host) == ipaddress.IPv4Address("127.0.0.1")


@pytest.mark.parametrize("host", ["localhost", "LocalHost.", "a.b.localhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"])
def test_names_of_this_machine_are_loopback_where_nothing_is_resolved(host: str) -> None:
    assert network.spelled(host) == ipaddress.IPv4Address("127.0.0.1")
    assert network.spelled(f"{host.rstrip('.')}.example") is None


@pytest.mark.parametrize(
    ("host", "readable"),
    [
        ("hooks.example", True),
        ("hooks.example.", True),
        ("docker_service", True),
        ("xn--mller-kva.example", True),
        ("3com.com", True),
        ("[::1]", True),
        ("0x7f.1", True),
        ("127%2e0.0.1", False),
        ("a%00.example", False),
        ("a b", False),
        ("4294967296", False),
        ("1.2.3.256", False),
        ("a.0x1", False),
        ("a..", True),
        ("", False),
        (".", False),
    ],
)
def test_hosts_that_programs_read_differently_are_not_readable(host: str, readable: bool) -> None:
    assert network.readable(host) is readable
    expected = None if readable and network.literal(host) is None else Rule.UNREADABLE
    if network.literal(host) is None:
        assert EVERYTHING.refusal_unresolved(host) is expected


@pytest.mark.parametrize(
    "address", ["64:ff9b:1:a9fe:a9:fe00:808:808", "64:ff9b:1:a9:fe:a9fe:808:808", "64:ff9b:1::a9fe:a9fe"]
)
def test_a_local_nat64_hides_no_metadata_wherever_its_prefix_ends(address: str) -> None:
    assert EVERYTHING.refusal(address) is Rule.METADATA


def test_a_local_nat64_is_opened_by_both_ranges_together() -> None:
    address = "64:ff9b:1:fffe::10.0.0.1"
    assert network.AddressPolicy(["64:ff9b:1::/48", "10.0.0.0/8"]).refusal(address) is None
    assert network.AddressPolicy(["10.0.0.0/8"]).refusal(address) is Rule.SPECIAL
    assert network.AddressPolicy(["64:ff9b:1::/48"]).refusal(address) is Rule.PRIVATE


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", ""])
def test_a_bad_range_says_what_to_write(text: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"network\.allow_private: .* CIDR range such as"):
        network.AddressPolicy([text])


def test_a_refusal_names_the_rule() -> None:
    error = network.refused("hooks.example", Rule.PRIVATE)
    assert error.rule == "private"
    assert error.reason == "address_refused"
    assert "rule private" in str(error)
    assert "network.allow_private" in str(error)
    assert "never" in str(network.refused("hooks.example", Rule.METADATA))
