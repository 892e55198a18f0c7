"""``relay destinations``: what an option asks the API for, and what is shown of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.conftest import Peer, Runner

SHOWN: dict[str, Any] = {
    "name": "pipeline",
    "state": "active",
    "service": "signed webhook",
    "address": "https://example.com",
    "source": "api",
    "statuses": ["failed"],
    "prompt": True,
    "schedule": [0, 5],
    "timeout": 15,
    "concurrency": 8,
    "rate": None,
    "age_max": None,
    "retry_after_max": 3600,
    "headers": [],
    "signatures": ["v1"],
    "old_until": None,
    "paused_at": None,
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
    "problem": None,
}


async def shown(relay: Runner, peer: Peer, **more: Any) -> dict[str, str]:
    """Names and values as a person reads them."""
    peer.will("GET /destinations/pipeline", SHOWN | more)
    ended = await relay("destinations", "show", "pipeline")
    assert ended.code == 0, ended.err
    pairs = [line.split("  ", 1) for line in ended.out.splitlines()]
    return {name: value.strip() for name, value in pairs}


async def test_what_is_in_force_is_shown(relay: Runner, peer: Peer) -> None:
    fields = await shown(relay, peer)
    assert (fields["timeout"], fields["retry-after max"]) == ("15", "3600")
    assert fields.keys().isdisjoint({"problem", "old secret until"})


async def test_what_is_wrong_with_it_and_an_old_secret_that_signs_are_shown(
    relay: Runner, peer: Peer
) -> None:
    fields = await shown(
        relay, peer, problem="the service is not known any more", old_until="2026-11-27T01:02:03.456Z"
    )
    assert fields["problem"] == "the service is not known any more"
    assert fields["old secret until"] == "2026-11-27T01:02:03Z"


async def test_retry_after_max_is_an_option_and_default_puts_it_back(relay: Runner, peer: Peer) -> None:
    peer.will("PATCH /destinations/pipeline", SHOWN)
    for given, sent in (("60", 60), ("default", None)):
        ended = await relay("destinations", "change", "pipeline", "--retry-after-max", given)
        assert ended.code == 0, ended.err
        assert peer.requests[-1].json == {"retry_after_max": sent}


async def test_a_signing_key_is_read_from_a_file_and_default_takes_it_away(
    relay: Runner, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("whsk_x\n")
    peer.will("PATCH /destinations/pipeline", SHOWN)
    for given, sent in (("@key", "whsk_x"), ("default", None)):
        ended = await relay("destinations", "change", "pipeline", "--signing-key", given)
        assert ended.code == 0, ended.err
        assert peer.requests[-1].json == {"signing_key": sent}
