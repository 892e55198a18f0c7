"""Values that cannot be meant are refused where they are typed: by the option's name, with exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.cli import kinds
from relay.domain import redelivery
from relay.web import app, openapi
from tests.cli.conftest import Canned, Peer, Runner

LISTS = ("tasks ls", "deliveries ls", "redeliveries ls")
SELECTING = ("deliveries redeliver --all --yes", "redeliveries create --all")
RUNNING = "redeliveries run rdl_a"
DESTINATIONS = ("destinations add made --url @url", "destinations change made")
ODD = ("nan", "inf", "-inf", "1e400", "-1", "many", "")

BAD = [
    *((command, "--limit", value) for command in LISTS for value in ("0", "201", "1.5", "9" * 400, *ODD)),
    *(
        (command, option, value)
        for command in ("tasks ls", "deliveries ls", *SELECTING)
        for option in ("--since", "--until")
        for value in ("yesterday", "2026-11-23", "2026-11-23T01:02:03", "2026-13-01T00:00:00Z", "")
    ),
    *((command, "--rate", value) for command in (*SELECTING, RUNNING) for value in ("0", "1001", *ODD)),
    *(
        (command, option, value)
        for command in DESTINATIONS
        for option, most in (
            ("--timeout", "31622401"),
            ("--age-max", "31622401"),
            ("--retry-after-max", "31622401"),
            ("--rate", "10001"),
            ("--concurrency", "1001"),
        )
        for value in ("0", most, *ODD)
    ),
    *(
        (command, "--schedule", value)
        for command in DESTINATIONS
        for value in ("0,1e400", "0,nan", "0,-1", "604801", "0,,5", ",".join("0" * 51), *ODD)
    ),
    *(("destinations rotate-secret made", "--overlap", value) for value in ("7776001", *ODD)),
    *((command, "--task", "no task") for command in ("deliveries ls", *SELECTING)),
]  # fmt: skip


@pytest.mark.parametrize(("command", "option", "value"), BAD)
async def test_it_is_refused_by_name_and_nobody_is_asked(
    relay: Runner, peer: Peer, tmp_path: Path, command: str, option: str, value: str
) -> None:
    (tmp_path / "url").write_text("https://example.com/hook")
    ended = await relay(*command.split(), option, value)
    assert (ended.code, ended.out) == (2, "")
    [error] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert option in error
    assert "Traceback" not in ended.err
    assert peer.requests == []


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("destinations add Made --url @url", "NAME"),
        ("destinations change made --headers @headers", "--headers"),
        ("submit veo3 -i duration:=1e400", "-i duration"),
        ("submit veo3 -i duration:=NaN", "-i duration"),
    ],
)
async def test_so_are_a_name_headers_and_json(
    relay: Runner, peer: Peer, tmp_path: Path, command: str, what: str
) -> None:
    (tmp_path / "url").write_text("https://example.com/hook")
    (tmp_path / "headers").write_text('{"X-A": 1}')
    ended = await relay(*command.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {what}: ")
    assert peer.requests == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
async def test_so_is_a_keys_name(relay: Runner, peer: Peer, name: str) -> None:
    ended = await relay("keys", "create", name)
    assert (ended.code, ended.err) == (2, "error: NAME: give 1 to 100 printable characters\n")
    assert peer.requests == []


async def test_what_is_just_within_the_limits_is_sent(relay: Runner, peer: Peer) -> None:
    peer.will("PATCH /destinations/made", {"name": "made"})
    peer.will("POST /destinations/made/rotate-secret", {"secret": "whsec_x", "old_until": None})
    peer.will("GET /tasks", Canned(text='{"tasks": [], "next_cursor": null}'))
    wishes = {"timeout": "31622400", "age-max": "0.001", "rate": "1e4", "concurrency": "1000"}
    options = [word for name, value in wishes.items() for word in (f"--{name}", value)]
    for command in (
        ["destinations", "change", "made", "--schedule", "0, 604800", *options],
        ["destinations", "rotate-secret", "made", "--overlap", "0"],
        ["tasks", "ls", "--limit", "200"],
    ):
        ended = await relay(*command)
        assert ended.code == 0, ended.err
    changed, rotated, listed = peer.requests
    assert changed.json == {
        "schedule": [0, 604800],
        "timeout": 31622400,
        "age_max": 0.001,
        "rate": 10000,
        "concurrency": 1000,
    }
    assert rotated.json == {"overlap": 0}
    assert listed.query == {"limit": "200"}


def test_the_limits_are_the_apis() -> None:
    described = openapi.document(app.ENDPOINTS)
    schemas = described["components"]["schemas"]

    def limits(schema: str, member: str) -> dict[str, Any]:
        told = schemas[schema]["properties"][member]
        [one] = [one for one in told.get("anyOf", [told]) if one.get("type") != "null"]
        return dict(one)

    for member in ("timeout", "age_max", "retry_after_max"):
        assert limits("ChangedDestination", member)["maximum"] == kinds.SECONDS_MAX
    assert limits("ChangedDestination", "rate")["maximum"] == kinds.PER_SECOND_MAX
    assert limits("ChangedDestination", "concurrency")["maximum"] == kinds.CONCURRENCY_MAX
    schedule = limits("ChangedDestination", "schedule")
    assert (schedule["maxItems"], schedule["items"]["maximum"]) == (kinds.DELAYS_MAX, kinds.DELAY_MAX)
    assert limits("Rotation", "overlap")["maximum"] == kinds.OVERLAP_MAX
    rate = limits("NewRedelivery", "rate")
    assert (rate["minimum"], rate["maximum"]) == (redelivery.RATE_MIN, redelivery.RATE_MAX)
    [limit] = [
        parameter["schema"]
        for parameter in described["paths"]["/api/v1/tasks"]["get"]["parameters"]
        if parameter["name"] == "limit"
    ]
    assert limit["maximum"] == kinds.LIMIT_MAX
