"""What an operator watches relay by: readiness, gauges, counters, and the line that each attempt leaves."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import prometheus_client.parser
import pytest
from structlog import testing

from relay.domain import errors, ids, model
from relay.engine import health
from tests import harness
from tests.engine import sending
from tests.engine.test_faults import end
from tests.fakes import receivers, upstream

DELIVERED = model.DeliveryState.DELIVERED

LATE = health.OVERDUE_AFTER + 10.0
"""Seconds after which what is due is overdue, long before a loop counts as stuck."""


async def readiness(relay: harness.Relay) -> tuple[int, str]:
    """What ``/readyz`` answers, asked later than it keeps what the database said."""
    relay.advance(health.CHECK_EVERY)
    async with relay.session.get(f"{relay.url}/readyz") as reply:
        return reply.status, await reply.text()


async def sample(relay: harness.Relay, name: str, **labels: str) -> float:
    """A value at ``/metrics``; 0.0 where there is none yet."""
    async with relay.session.get(f"{relay.url}/metrics") as reply:
        families = prometheus_client.parser.text_string_to_metric_families(await reply.text())
        found = (one for family in families for one in family.samples)
        return next((one.value for one in found if (one.name, one.labels) == (name, labels)), 0.0)


async def oldest_due(relay: harness.Relay) -> float:
    """The gauge, measured from now on."""
    await harness.passed(relay.running.supervisor.loops["janitor"])
    return await sample(relay, "relay_oldest_due_seconds")


def away(*arguments: Any, **more: Any) -> Any:
    """Stands in for a method of the store while the database cannot do it."""
    raise errors.StoreUnavailable("locked")


async def failed_once(relay: harness.Relay, fake: upstream.FakeUpstream, task: str = "t1") -> dict[str, Any]:
    """A delivery whose first attempt failed."""
    end(fake, task)
    await relay.watch(task, notify=["hook"])
    [pending] = await relay.until_state("pending", reason="http_500")
    return pending


async def test_what_is_due_and_nothing_keeps_back_makes_relay_unready_once_it_is_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook, schedule=[0, 30, 600])}) as relay,
    ):
        hook.script = [receivers.Answer(status=500)]
        owed = await failed_once(relay, fake)
        assert await oldest_due(relay) == 0.0, "it is not due yet"
        store = relay.running.services.store
        claim = store.claim
        monkeypatch.setattr(store, "claim", away)
        found = await store.delivery(owed["id"])
        assert found is not None
        assert found.next_attempt_at is not None
        relay.advance(found.next_attempt_at - relay.time.now() + 1.0)
        assert (await readiness(relay))[0] == 200, "due is not overdue"
        assert 1.0 <= await oldest_due(relay) < LATE
        relay.advance(LATE)
        status, said = await readiness(relay)
        assert status == 503
        assert "deliveries to hook are" in said
        assert "overdue" in said
        assert await oldest_due(relay) > LATE
        monkeypatch.setattr(store, "claim", claim)
        await relay.until_state("delivered")
        assert (await readiness(relay))[0] == 200
        assert await oldest_due(relay) == 0.0


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"rate": 0.001}, receivers.Answer()),
        ({}, receivers.Answer(status=429, headers={"Retry-After": "3600"})),
        ({"concurrency": 1, "timeout": 60}, receivers.Answer(manner=receivers.Manner.HANG)),
    ],
    ids=["its own pace", "its peer's wish", "no seat"],
)
async def test_what_rightly_waits_is_not_overdue(
    tmp_path: Path, options: dict[str, Any], answer: receivers.Answer
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook, **options)},
            server={"port": 0, "drain_timeout": 0.1},
        ) as relay,
    ):
        hook.answer = answer
        end(fake, "t1", "t2")
        await relay.watch("t1", notify=["hook"])
        await hook.wait_for(1)
        if answer.manner is receivers.Manner.PLAIN:
            await relay.later(0)
        await relay.watch("t2", notify=["hook"])
        [waits] = await relay.until_state("pending", task="t2")
        relay.advance(LATE)
        assert (await readiness(relay))[0] == 200
        assert await oldest_due(relay) == 0.0
        waits = await relay.delivery(waits["id"])
        due = datetime.datetime.fromisoformat(waits["next_attempt_at"]).timestamp()
        assert waits["attempts_made"] == 0
        assert relay.time.now() - due > health.OVERDUE_AFTER, "it was due all the while"


async def test_what_is_paused_is_not_overdue_and_is_due_from_the_resumption_on(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook, schedule=[0, 30, 600])}) as relay,
    ):
        hook.script = [receivers.Answer(status=500)]
        await failed_once(relay, fake)
        await relay.call("POST", "/destinations/hook/pause")
        await relay.until_state("held")
        relay.advance(30 + LATE)
        assert (await readiness(relay))[0] == 200
        assert await oldest_due(relay) == 0.0
        await relay.call("POST", "/destinations/hook/resume", json={})
        assert (await readiness(relay))[0] == 200
        await relay.until_state("delivered")


async def test_what_slipped_in_for_one_that_is_paused_is_not_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pending until it can be held."""
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        await relay.call("POST", "/destinations/hook/pause")
        store = relay.running.services.store
        monkeypatch.setattr(store, "hold", away)
        body = model.Notification(id="ntf_a", format=model.Format.WEBHOOK, type="task.failed", body=b"{}")
        slipped = model.NewDelivery(
            id="msg_a",
            task=None,
            destination="hook",
            type="task.failed",
            notification=body,
            created_at=relay.time.now(),
        )
        await store.add_deliveries([slipped])
        relay.advance(LATE)
        assert (await readiness(relay))[0] == 200
        assert await oldest_due(relay) == 0.0
        assert (await relay.delivery("msg_a"))["state"] == "pending"


# -- attempts -----------------------------------------------------------------------------------------


async def test_an_attempt_leaves_one_line_that_tells_all_of_it(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook, schedule=[0, 600, 600])}) as relay,
    ):
        hook.script = [receivers.Answer(status=500)]
        with testing.capture_logs() as logged:
            owed = await failed_once(relay, fake)
            await relay.later(700)
            await relay.until_state("delivered")
            await relay.later(0)
        first, second = [line for line in logged if line["event"] == "attempt"]
        failed, arrived = (await relay.delivery(owed["id"]))["attempts"]
        assert 590 < first.pop("retry_in") <= 660
        common = {
            "event": "attempt",
            "delivery": owed["id"],
            "destination": "hook",
            "type": "task.succeeded",
            "task": "t1",
            "upstream": "mindvideo",
            "lease_lost": False,
        }
        assert first == {
            **common,
            "log_level": "warning",
            "number": 1,
            "outcome": "retry",
            "state": "pending",
            "reason": "http_500",
            "status_code": 500,
            "detail": failed["detail"],
            "duration_ms": round(failed["duration_ms"], 1),
        }
        assert second == {
            **common,
            "log_level": "info",
            "number": 2,
            "outcome": "delivered",
            "state": "delivered",
            "reason": "ok",
            "status_code": 204,
            "detail": None,
            "duration_ms": round(arrived["duration_ms"], 1),
            "retry_in": None,
        }


async def test_the_line_of_what_tells_of_no_task_names_none(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        with testing.capture_logs() as logged:
            await relay.call("POST", "/destinations/hook/test")
        [line] = [line for line in logged if line["event"] == "attempt"]
        assert (line["type"], line["task"], line["upstream"]) == ("relay.test", None, None)


async def test_the_documents_show_an_attempt_s_line_as_it_is(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "operating.md").read_text("utf-8")
    shown = re.search(r"^```json\n(\{.*?\})\n```$", document, re.MULTILINE | re.DOTALL)
    assert shown is not None
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        with testing.capture_logs() as logged:
            await bench.until((await bench.fresh("a"))[0], DELIVERED)
            await bench.idle()
    [line] = [line for line in logged if line["event"] == "attempt"]
    added = {"level", "logger", "timestamp"}  # by what writes it
    assert json.loads(shown[1]).keys() == line.keys() - {"log_level"} | added


@pytest.mark.parametrize(
    ("arrived", "became"),
    [(False, "superseded"), (True, "delivered")],
    ids=["never arrived", "arrived before"],
)
async def test_the_line_of_an_attempt_that_its_task_s_end_overtook_says_what_became_of_it(
    tmp_path: Path, arrived: bool, became: str
) -> None:
    """It failed after the end was recorded: nothing is tried again, whatever the schedule has left."""
    peer = sending.Peer("a", concurrency=1)
    async with sending.running(tmp_path, {"a": peer}) as bench:
        peer.open.clear()
        await bench.tell("t", "a", changes=[model.Change.PROCESSING])
        await peer.asked(1)
        overtaken = ids.delivery_id(sending.UPSTREAM, "t", "processing", "a")
        if arrived:
            peer.open.set()
            await bench.until(overtaken, DELIVERED)
            await bench.idle()
            peer.open.clear()
            await bench.dispatcher.redeliver(overtaken)
            await peer.asked(2)
        peer.answers = [sending.failure()]
        await bench.tell("t", "a", changes=[model.Change.PROCESSING, model.Change.SUCCEEDED], version=2)
        with testing.capture_logs() as logged:
            peer.open.set()
            await bench.until(ids.delivery_id(sending.UPSTREAM, "t", "succeeded", "a"), DELIVERED)
            await bench.idle()
        [line] = [line for line in logged if line["event"] == "attempt" and line["delivery"] == overtaken]
        assert (line["outcome"], line["reason"]) == ("retry", "http_500")
        assert (line["state"], line["retry_in"]) == (became, None)
        found = await bench.store.delivery(overtaken)
        assert found is not None
        assert found.state == became


async def test_attempts_are_counted_by_destination_outcome_and_reason(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        receivers.serve() as closed,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook, schedule=[0, 600, 600]), "closed": harness.webhook(closed)},
        ) as relay,
    ):
        counted = [
            ("hook", "retry", "http_500"),
            ("hook", "delivered", "ok"),
            ("closed", "disable", "http_410"),
            ("closed", "delivered", "ok"),
        ]

        async def counts() -> list[float]:
            return [
                await sample(
                    relay,
                    "relay_delivery_attempts_total",
                    destination=destination,
                    outcome=outcome,
                    reason=reason,
                )
                for destination, outcome, reason in counted
            ]

        before = await counts()
        hook.script = [receivers.Answer(status=500)]
        closed.answer = receivers.Answer(status=410)
        await failed_once(relay, fake)
        await relay.later(700)
        await relay.until_state("delivered")
        end(fake, "t2", "t3")
        await relay.watch("t2", notify=["hook", "closed"])
        await relay.until_state("held", reason="disabled")
        await relay.watch("t3", notify=["hook"])
        await hook.wait_for(4)
        await relay.later(0)
        assert [now - then for now, then in zip(await counts(), before, strict=True)] == [1, 3, 1, 0]
