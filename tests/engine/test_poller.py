"""What relay makes of an upstream's answers, seen from the receiver's side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.fakes import receivers, upstream

EVENTS = "/api/v1/tasks/t1/events"
TASK = "/api/v1/tasks/t1"


def body(status: str, **more: Any) -> dict[str, Any]:
    """A task body of the seed's shape."""
    return {"request_id": "req_1", "task_id": "t1", "status": status, "cost_estimate": 0.5, **more}


DONE = body("succeeded", cost_actual=0.5, output={"videos": [{"url": "https://example.com/1.mp4"}]})


def event(number: int, status: str, **data: Any) -> dict[str, Any]:
    """One event as the sandbox writes it."""
    return {"id": f"e{number}", "type": f"task.{status}", "status": status, "data": data or None}


async def told(hook: receivers.Receiver, count: int = 1, *, timeout: float = 10.0) -> list[str]:
    """The types of what was received, once there are ``count``."""
    requests = await hook.wait_for(count, timeout=timeout)
    return [request.json["type"] for request in requests]  # type: ignore[index]


async def asked(fake: upstream.FakeUpstream, path: str, count: int) -> None:
    """Return once ``path`` was requested ``count`` times."""
    async with asyncio.timeout(15):
        while len([r for r in fake.requests if r.path == path]) < count:
            await asyncio.sleep(0.01)


async def test_a_bare_end_is_confirmed_by_the_task_endpoint(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "processing"), event(2, "succeeded")]))
        fake.task("t1", upstream.Json(DONE))
        await relay.watch("t1", notify=["hook"])
        assert await told(hook) == ["task.succeeded"]
        assert hook.requests[0].json["data"]["output"] == DONE["output"]  # type: ignore[index]


async def test_an_end_that_the_endpoint_contradicts_is_believed_only_after_the_confirm_timeout(
    tmp_path: Path,
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "succeeded")]))
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1", notify=["hook"])
        await asked(fake, TASK, 1)
        await relay.later(30)
        await asked(fake, TASK, 2)
        assert (await relay.task("t1"))["status"] != "succeeded"
        assert not hook.requests
        relay.advance(31)
        assert await told(hook) == ["task.succeeded"]


async def test_the_endpoints_own_end_wins(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "succeeded")]))
        fake.task("t1", upstream.Json(body("failed", error={"code": "nsfw", "message": "refused"})))
        await relay.watch("t1", notify=["hook"])
        assert await told(hook) == ["task.failed"]


async def test_the_cursor_does_not_pass_an_end_that_was_not_committed(tmp_path: Path) -> None:
    async with receivers.serve() as hook, upstream.running() as fake:
        destinations = {"hook": harness.webhook(hook)}
        page = {"events": [event(1, "processing"), event(2, "succeeded")], "next_cursor": "c2"}

        def events(request: upstream.Recorded) -> upstream.Answer:
            seen = request.query.get("cursor")
            return upstream.Json({"events": [], "next_cursor": "c2"} if seen == "c2" else page)

        fake.events("t1", events)
        fake.task("t1", upstream.Json({}, status=500))
        async with harness.running(tmp_path, fake, destinations) as relay:
            await relay.watch("t1", notify=["hook"])
            await asked(fake, TASK, 2)
        assert not hook.requests
        fake.task("t1", upstream.Json(DONE))
        async with harness.running(tmp_path, fake, destinations) as relay:
            assert await told(hook) == ["task.succeeded"]
            await relay.until_verdict("t1", "ended")


async def test_a_task_that_the_upstream_forgot_is_lost_after_three_misses_over_a_minute(
    tmp_path: Path,
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        await relay.watch("t1", notify=["hook"])
        await asked(fake, TASK, 1)
        await relay.later(25)
        await asked(fake, TASK, 2)
        await relay.later(25)
        await asked(fake, TASK, 3)
        assert (await relay.task("t1"))["relay"]["verdict"] == "running"
        relay.advance(25)
        assert await told(hook) == ["task.lost"]
        lost = await relay.until_verdict("t1", "lost")
        assert lost["status"] == "queued"


async def test_a_blip_of_404s_loses_nothing(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        await relay.watch("t1", notify=["hook"])
        await asked(fake, TASK, 1)
        await relay.later(25)
        await asked(fake, TASK, 2)
        fake.events("t1", upstream.Json({**DONE, "events": []}))
        fake.task("t1", upstream.Json(DONE))
        relay.advance(25)
        assert await told(hook) == ["task.succeeded"]


async def test_a_stall_is_told_once_and_the_end_still_comes(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path,
            fake,
            {"hook": harness.webhook(hook)},
            upstream_options={"stall_timeout": 100, "poll_interval_max": 5},
        ) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "processing")]))
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1", notify=["hook"])
        await relay.until_verdict("t1", "running")
        await relay.later(101)
        assert await told(hook) == ["task.stalled"]
        for _ in range(3):
            seen = len(fake.requests)
            await relay.later(10)
            async with asyncio.timeout(10):
                while len(fake.requests) == seen:
                    await asyncio.sleep(0.01)
        fake.events("t1", upstream.Json([event(1, "processing"), event(2, "succeeded")]))
        fake.task("t1", upstream.Json(DONE))
        relay.advance(10)
        assert await told(hook, 2) == ["task.stalled", "task.succeeded"]


async def test_an_unknown_status_means_processing_and_is_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"hook": harness.webhook(hook, statuses=["processing", "succeeded"])}
        ) as relay,
    ):
        fake.events("t1", upstream.Json([event(1, "rendering")]), upstream.Json([event(2, "rendering")]))
        fake.task("t1", upstream.Json(body("rendering")))
        await relay.watch("t1", notify=["hook"])
        assert await told(hook) == ["task.processing"]
        await asked(fake, EVENTS, 3)
    assert capsys.readouterr().out.count("unknown status") == 1


async def test_a_refused_credential_is_paused_with_one_notice_and_probed(tmp_path: Path) -> None:
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
        refuse = upstream.Json({"error": "disabled"}, status=401)
        for number in range(5):
            fake.events(f"t{number}", refuse)
            fake.task(f"t{number}", refuse)
            await relay.watch(f"t{number}", notify=["hook"])
        [notice] = await operator.wait_for(1)
        assert notice.json["type"] == "relay.operator.credential_paused"  # type: ignore[index]
        asked_before = len(fake.requests)
        for number in range(5):
            fake.events(f"t{number}", upstream.Json([]))
            fake.task(f"t{number}", upstream.Json({**DONE, "task_id": f"t{number}"}))
            fake.events(f"t{number}", upstream.Json({**DONE, "task_id": f"t{number}"}))
        await relay.later(61)
        await hook.wait_for(5)
        assert len(operator.requests) == 1
        assert asked_before <= 5 + 5, "a paused credential is not used for every task"


async def test_a_failing_upstream_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.events(
            "t1",
            upstream.Status(520, b"<html>", content_type="text/html"),
            upstream.Reset(),
            upstream.Truncated(b'{"task_id":'),
            upstream.Json(DONE),
        )
        await relay.watch("t1", notify=["hook"])
        assert await told(hook) == ["task.succeeded"]


async def test_a_restart_goes_on_where_the_cursor_is(tmp_path: Path) -> None:
    async with receivers.serve() as hook, upstream.running() as fake:
        destinations = {"hook": harness.webhook(hook)}
        fake.events("t1", upstream.Json({"events": [event(1, "processing")], "next_cursor": "c1"}))
        async with harness.running(tmp_path, fake, destinations) as relay:
            await relay.watch("t1", notify=["hook"])
            await asked(fake, EVENTS, 2)
        fake.requests.clear()
        async with harness.running(tmp_path, fake, destinations) as relay:
            await asked(fake, EVENTS, 1)
            assert fake.requests[0].query["cursor"] == "c1"
            status, answer = await relay.call("GET", "/tasks/t1/events")
            assert status == 200
            assert [one["type"] for one in answer["events"]] == ["task.processing"]


async def test_polls_without_news_write_nothing(tmp_path: Path) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        fake.events("t1", upstream.Json([event(1, "processing")]))
        await relay.watch("t1")
        await asked(fake, EVENTS, 2)
        wal = tmp_path / "relay.db-wal"
        before = (wal.stat().st_size, wal.stat().st_mtime_ns)
        seen = len(fake.requests)
        await asked(fake, EVENTS, seen + 5)
        assert (wal.stat().st_size, wal.stat().st_mtime_ns) == before


async def test_the_last_registration_dropped_ends_the_asking(tmp_path: Path) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        await relay.watch("t1")
        await asked(fake, EVENTS, 2)
        status, _ = await relay.call("DELETE", "/tasks/t1")
        assert status == 204
        fake.events("t2", upstream.Json([]))
        fake.task("t2", upstream.Json(body("processing")))
        fake.requests.clear()
        await relay.watch("t2")
        await asked(fake, "/api/v1/tasks/t2/events", 3)
        assert len([r for r in fake.requests if "/t1" in r.path]) <= 1, "at most the look that was in flight"


async def test_a_new_task_is_looked_at_ahead_of_what_a_short_budget_keeps_waiting(tmp_path: Path) -> None:
    async with (
        upstream.running() as fake,
        harness.running(tmp_path, fake, upstream_options={"requests_per_second": 10}) as relay,
    ):
        for number in range(60):
            fake.events(f"t{number}", upstream.Json([]))
            fake.task(f"t{number}", upstream.Json(body("processing")))
            await relay.watch(f"t{number}")
        # Sixty tasks are due twenty times a second: the budget is short six times over or more.
        await asked(fake, "/api/v1/tasks/t59/events", 1)
        before = len(fake.requests)
        await relay.watch("new")
        await asked(fake, "/api/v1/tasks/new/events", 1)
        ahead = [r.path for r in fake.requests[before:] if r.path.endswith("/events")]
        assert ahead.index("/api/v1/tasks/new/events") <= 3


async def test_a_429_rests_the_whole_credential_for_as_long_as_it_asks(tmp_path: Path) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        for name in ("t0", "t1"):
            fake.events(name, upstream.Json([]))
            fake.task(name, upstream.Json(body("processing")))
            await relay.watch(name)
        await asked(fake, "/api/v1/tasks/t1/events", 2)
        fake.events("t0", upstream.Status(429, headers={"Retry-After": "30"}), upstream.Json([]))
        seen = len(fake.asked("t0/events"))
        await asked(fake, "/api/v1/tasks/t0/events", seen + 1)
        async with asyncio.timeout(10):
            while relay.running.supervisor.jobs_running:
                await asyncio.sleep(0.01)
        rested = len(fake.requests)
        await relay.later(25)
        await relay.watch("t1", metadata={"still": "resting"})
        assert len(fake.requests) == rested
        await relay.later(6)
        await asked(fake, "/api/v1/tasks/t1/events", len(fake.asked("t1/events")) + 1)
