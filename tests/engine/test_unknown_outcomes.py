"""A message that may have arrived is repeated twice to chat and mail, and as scheduled to webhooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.domain import model
from tests.engine import sending


@pytest.mark.parametrize(
    ("kind", "sent", "reason"), [(model.Format.CHAT, 3, "unknown"), (model.Format.WEBHOOK, 6, "timeout")]
)
async def test_nobody_gets_the_same_mail_ten_times(
    tmp_path: Path, kind: model.Format, sent: int, reason: str
) -> None:
    peer = sending.Peer("a", format=kind, answers=[sending.failure(**sending.HUNG) for _ in range(9)])
    async with sending.running(tmp_path, {"a": peer}, schedule=[0.0] * 6) as bench:
        [owed] = await bench.fresh("a")
        dead = await bench.until(owed, model.DeliveryState.DEAD)
        await bench.idle()
    assert (len(peer.taken), dead.attempts_made, dead.reason) == (sent, sent, reason)
