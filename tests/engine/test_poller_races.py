"""What a poller makes of writers, faults and silence at the wrong moment. Seen from the receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.domain import errors, model
from relay.engine import poller
from relay.store import base as store_base
from relay.upstreams import mindvideo
from tests import harness
from tests.engine.test_poller import DONE, EVENTS, TASK, asked, body, event, told
from tests.fakes import receivers, upstream


def _writes(relay: harness.Relay) -> Any:
    return relay.running.services.intake._recorder._writes


async def test_a_task_registered_again_while_a_look_is_in_flight_is_still_watched(tmp_path: Path) -> None:
    """DELETE and PUT while the upstream thinks: the old look must not take the new watch with it."""
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        answered = asyncio.Event()
        page = upstream.Json([event(1, "processing")])
        fake.events("t1", upstream.Later(page, answered), page)
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, EVENTS, 1)
        status, _ = await relay.call("DELETE", "/tasks/t1")
        assert status == 204
        await relay.watch("t1", notify=["hook"])
        await asked(fake, EVENTS, 2)
        answered.set()
        await asked(fake, EVENTS, 4)
        fake.events("t1", upstream.Json([event(1, "processing"), event(2, "succeeded")]))
        fake.task("t1", upstream.Json(DONE))
        assert await told(hook) == ["task.succeeded"]
        await relay.until_verdict("t1", "ended")


async def test_an_end_dropped_while_the_look_is_in_flight_is_not_told(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        answered = asyncio.Event()
        fake.events("t1", upstream.Later(upstream.Json(DONE), answered))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, EVENTS, 1)
        status, _ = await relay.call("DELETE", "/tasks/t1")
        assert status == 204
        answered.set()
        fake.events("t2", upstream.Json({**DONE, "task_id": "t2"}))
        fake.task("t2", upstream.Json({**DONE, "task_id": "t2"}))
        await relay.watch("t2", notify=["hook"])
        [told_of] = await hook.wait_for(1)
        assert told_of.json["data"]["task_id"] == "t2"  # type: ignore[index]
        assert len(await relay.deliveries()) == 1


async def test_an_end_whose_task_is_gone_since_is_told_after_the_misses(tmp_path: Path) -> None:
    """The events endpoint goes on answering, so the 404s of the task endpoint are what counts."""
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "processing"), event(2, "succeeded")]))
        await relay.watch("t1", notify=["hook"])
        for looks in range(1, 5):
            await asked(fake, TASK, looks)
            relay.advance(25)
        assert await told(hook) == ["task.succeeded"]


async def test_a_task_endpoint_that_already_answered_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success without output in a page of the task endpoint itself: that page is the authority."""
    fetched: list[str] = []
    fetch = mindvideo.MindVideo.fetch

    async def counted(upstream_: mindvideo.MindVideo, task_id: str) -> model.Snapshot:
        fetched.append(task_id)
        return await fetch(upstream_, task_id)

    monkeypatch.setattr(mindvideo.MindVideo, "fetch", counted)
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.task("t1", upstream.Json(body("succeeded")))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, TASK, 1)
        await relay.later(3)
        await asked(fake, TASK, 2)
        fake.task("t1", upstream.Json(DONE))
        relay.advance(3)
        assert await told(hook) == ["task.succeeded"]
        assert hook.requests[0].json["data"]["output"] == DONE["output"]  # type: ignore[index]
    assert not fetched


@pytest.mark.parametrize(
    "failure", [errors.StoreUnavailable("locked"), errors.StoreRejected("refused"), RuntimeError("a fault")]
)
async def test_news_that_could_not_be_stored_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Whatever the fault, the page's validator must not hide the news from the next look."""
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, EVENTS, 2)
        commit, failed = _writes(relay)._write, asyncio.Event()

        async def failing(batch: Sequence[store_base.TaskWrite]) -> Any:
            failed.set()
            raise failure

        monkeypatch.setattr(_writes(relay), "_write", failing)
        fake.events("t1", upstream.Json(DONE, headers={"ETag": '"end"'}))
        await asyncio.wait_for(failed.wait(), 10)
        monkeypatch.setattr(_writes(relay), "_write", commit)
        await relay.later(60)
        assert await told(hook) == ["task.succeeded"]
        assert len(hook.requests) == 1


async def test_a_task_that_cannot_be_stored_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"hook": harness.webhook(hook)}, upstream_options={"concurrency": 1}
        ) as relay,
    ):
        for name in ("bad", "good"):
            fake.events(name, upstream.Json([]))
            fake.task(name, upstream.Json(body("processing", task_id=name)))
            await relay.watch(name, notify=["hook"])
        commit = _writes(relay)._write

        async def failing(batch: Sequence[store_base.TaskWrite]) -> Any:
            if any(write.task.task_id == "bad" for write in batch):
                raise errors.StoreRejected("refused")
            return await commit(batch)

        monkeypatch.setattr(_writes(relay), "_write", failing)
        fake.events("bad", upstream.Json({**DONE, "task_id": "bad"}))
        await asked(fake, "/api/v1/tasks/bad/events", 5)
        fake.events("good", upstream.Json({**DONE, "task_id": "good"}))
        [request] = await hook.wait_for(1)
        assert request.json["data"]["task_id"] == "good"  # type: ignore[index]


async def test_a_credential_refused_at_the_confirmation_is_paused_too(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        receivers.serve() as operator,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook), "ops": harness.webhook(operator)},
            operator={"notify": ["ops"]},
        ) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "succeeded")]))
        fake.task("t1", upstream.Json({"error": "disabled"}, status=401))
        await relay.watch("t1", notify=["hook"])
        [notice] = await operator.wait_for(1)
        assert notice.json["type"] == "relay.operator.credential_paused"  # type: ignore[index]
        fake.task("t1", upstream.Json(DONE))
        await relay.later(61)
        assert await told(hook) == ["task.succeeded"]
        assert len(operator.requests) == 1


async def _probed(relay: harness.Relay, fake: upstream.FakeUpstream) -> None:
    """Let time pass until the credential is tried again; an answer may be read after the time passed."""
    seen = len(fake.requests)
    async with asyncio.timeout(10):
        while len(fake.requests) == seen:
            relay.advance(61)
            await asyncio.sleep(0.01)


async def test_the_operator_hears_of_a_pause_even_if_the_database_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        receivers.serve() as operator,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"ops": harness.webhook(operator)}, operator={"notify": ["ops"]}
        ) as relay,
    ):
        store = relay.running.services.store
        add, failed = store.add_deliveries, asyncio.Event()

        async def away(deliveries: Any) -> list[bool]:
            failed.set()
            raise errors.StoreUnavailable("locked")

        monkeypatch.setattr(store, "add_deliveries", away)
        refused = upstream.Json({"error": "disabled"}, status=401)
        fake.events("t1", refused)
        fake.task("t1", refused)
        await relay.watch("t1")
        await asyncio.wait_for(failed.wait(), 10)
        monkeypatch.setattr(store, "add_deliveries", add)
        for _ in range(3):
            await _probed(relay, fake)
        await operator.wait_for(1)
        await _probed(relay, fake)
        assert len(operator.requests) == 1


async def test_deliveries_go_on_while_the_upstream_refuses_or_hangs(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook, schedule=[0, 0.1, 0.1])},
            upstream_options={"concurrency": 2},
        ) as relay,
    ):
        hook.script = [receivers.Answer(status=500)]
        fake.events("t1", upstream.Json(DONE))
        for number in range(4):
            fake.events(f"h{number}", upstream.Hang())
            fake.task(f"h{number}", upstream.Hang())
        await relay.watch("t1", notify=["hook"])
        await hook.wait_for(1)
        for number in range(4):
            await relay.watch(f"h{number}", notify=["hook"])
        async with asyncio.timeout(10):
            while len([r for r in fake.requests if "/h" in r.path]) < 2:
                await asyncio.sleep(0.01)
        await hook.wait_for(2)
        status, test = await relay.call("POST", "/destinations/hook/test")
        assert (status, test["state"]) == (200, "delivered")


async def test_a_paused_upstream_does_not_keep_the_daemon_from_stopping(tmp_path: Path) -> None:
    async with upstream.running() as fake:
        refused = upstream.Json({"error": "disabled"}, status=403)
        async with harness.running(tmp_path, fake) as relay:
            for number in range(20):
                fake.events(f"t{number}", refused)
                fake.task(f"t{number}", refused)
                await relay.watch(f"t{number}")
            async with asyncio.timeout(10):
                while relay.running.services.pollers.paused("mindvideo") is None:
                    await asyncio.sleep(0.01)
        assert relay.running.supervisor.jobs_running == 0


async def test_many_tasks_at_start_are_all_asked_about_within_a_small_budget(tmp_path: Path) -> None:
    async with upstream.running() as fake:
        names = [f"t{number}" for number in range(300)]
        for name in names:
            fake.events(name, upstream.Json([]))
            fake.task(name, upstream.Json(body("processing", task_id=name)))
        async with harness.running(tmp_path, fake, upstream_options={"concurrency": 1}) as relay:
            for name in names:
                await relay.watch(name)
        fake.requests.clear()
        options = {"requests_per_second": 50.0, "poll_interval_min": 2.0}
        async with harness.running(tmp_path, fake, upstream_options=options) as relay:
            began = relay.time.monotonic()
            async with asyncio.timeout(30):
                while len({r.path for r in fake.asked("/events")}) < len(names):
                    await asyncio.sleep(0.05)
            lasted = relay.time.monotonic() - began
            looks = len(fake.asked("/events"))
            # The first second's worth may come at once; a 404-free look is one token.
            assert looks <= 50 * (lasted + 2.5) + 1


async def test_somebody_elses_task_does_not_pause_the_credential(tmp_path: Path) -> None:
    """A 403 for one task, while the same credential works for others."""
    async with (
        receivers.serve() as hook,
        receivers.serve() as operator,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook), "ops": harness.webhook(operator)},
            operator={"notify": ["ops"]},
        ) as relay,
    ):
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, EVENTS, 2)
        forbidden = upstream.Json({"error": "not yours"}, status=403)
        fake.events("theirs", forbidden)
        fake.task("theirs", forbidden)
        await relay.watch("theirs")
        await asked(fake, "/api/v1/tasks/theirs/events", 2)
        assert relay.running.services.pollers.paused("mindvideo") is None
        fake.events("t1", upstream.Json(DONE))
        assert await told(hook) == ["task.succeeded"]
        # Once nothing else works any more it is the credential.
        relay.advance(121)
        [notice] = await operator.wait_for(1)
        assert notice.json["type"] == "relay.operator.credential_paused"  # type: ignore[index]


async def test_what_was_forgotten_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "HEAP_SLACK", 10)
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        refused = upstream.Json({"error": "disabled"}, status=401)
        fake.events("t0", refused)
        fake.task("t0", refused)
        await relay.watch("t0")
        [looking] = relay.running.services.pollers._pollers.values()
        async with asyncio.timeout(10):
            while looking.paused is None:
                await asyncio.sleep(0.01)
        for _ in range(50):
            await relay.watch("t1")
            status, _ = await relay.call("DELETE", "/tasks/t1")
            assert status == 204
        assert len(looking._heap) <= 2 * 2 + 10
