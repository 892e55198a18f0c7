"""What a destination is owed that was made late, or could not be used for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay import sealing
from relay.domain import model
from relay.engine import definitions
from relay.store import opening
from tests import harness
from tests.engine.test_destinations import daemon, url
from tests.fakes import receivers


@pytest.fixture
async def hook() -> AsyncIterator[receivers.Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


async def test_one_that_hears_of_progress_and_is_made_late_hears_no_old_news_either(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    """Whether anybody hears of progress was found out when the first task ended."""
    async with (
        daemon(tmp_path, {"other": harness.webhook(hook)}) as (relay, registry),
        receivers.serve() as late,
    ):
        await relay.submit(notify=["other"])
        await hook.wait_for(1)
        late.answer = receivers.Answer(status=500)
        statuses = ["queued", "processing", "succeeded"]
        await registry.create("late", {"url": url(late), "statuses": statuses, "schedule": [0, 600, 600]})
        task = await relay.submit(notify=["late"])
        await relay.until_verdict(task, "ended")
        async with asyncio.timeout(10):
            while any(
                one["state"] in ("sending", "pending") and not one["attempts_made"]
                for one in await relay.deliveries(destination="late")
            ):
                await asyncio.sleep(0.01)
        late.requests.clear()
        late.answer = receivers.Answer()
        await relay.later(2000)
        await relay.until_state("delivered", destination="late")
        assert {one["type"]: one["state"] for one in await relay.deliveries(destination="late")} == {
            "task.queued": "superseded",
            "task.processing": "superseded",
            "task.succeeded": "delivered",
        }
        assert [request.json["type"] for request in late.requests] == ["task.succeeded"]


async def test_one_that_is_mended_is_told_what_it_was_owed_meanwhile(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    """Its stored URL is not understood any more, as after an update of relay."""
    sealer = sealing.Sealer(key_file=tmp_path / "relay.db.key")
    definition = definitions.Definition(url="slak://a/b/c")
    record = definitions.Record(
        name="odd",
        source=model.Source.API,
        spec=definition.spec("odd"),
        options=definition.options,
        opened=definitions.unopened("odd"),
        definition=definition,
        created_at=1.0,
        changed_at=1.0,
    )
    store = await opening.open_store(f"sqlite:///{tmp_path}/relay.db", exclusive=True, migrate=True)
    await store.save_destination(definitions.to_store(record, sealer))
    body = model.Notification(id="ntf_a", format=model.Format.WEBHOOK, type="task.failed", body=b"{}")
    owed = model.NewDelivery(
        id="msg_a",
        task=None,
        destination="odd",
        type="task.failed",
        notification=body,
        created_at=time.time(),
    )
    await store.add_deliveries([owed])
    await store.aclose()
    async with daemon(tmp_path) as (relay, registry):
        assert registry.get("odd").problem is not None
        [held] = await relay.until_state("held")
        assert held["reason"] == "destination_missing"
        await registry.change("odd", {"url": url(hook), "secret": harness.SECRET})
        await hook.wait_for(1)
        assert [one["id"] for one in await relay.until_state("delivered")] == [held["id"]]
