"""A create is forwarded once, whatever is lost on the way: one task, one charge, one answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.domain import errors
from relay.store import base as store_base
from tests import harness
from tests.engine.test_poller import DONE, body
from tests.fakes import receivers, upstream

REQUEST = {"model": "veo3-fast", "input": {"prompt": "a cat"}}
CREATED = upstream.Json(body("queued"), status=201)


def keys(fake: upstream.FakeUpstream) -> list[str]:
    """The keys that creates came with, in order."""
    return [r.headers["Idempotency-Key"] for r in fake.requests if r.method == "POST"]


async def create(
    relay: harness.Client, key: str | None = None, **more: Any
) -> tuple[int, dict[str, Any], bool]:
    """Status, body, and whether the answer was given before."""
    headers = {"Idempotency-Key": key} if key else {}
    url = f"{relay.url}/api/v1/tasks"
    async with relay.session.post(url, json=REQUEST | more, headers=headers) as reply:
        return reply.status, await reply.json(content_type=None), "Idempotent-Replayed" in reply.headers


async def creates(fake: upstream.FakeUpstream, count: int) -> None:
    """Return once ``count`` creates came."""
    async with asyncio.timeout(15):
        while len(keys(fake)) < count:
            await asyncio.sleep(0.01)


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        upstream.running() as fake,
        harness.running(tmp_path, fake, {"hook": harness.webhook(hook)}) as relay,
    ):
        fake.create(upstream.Reset(), upstream.Status(502, b"bad"), CREATED)
        fake.events("t1", upstream.Json(DONE))
        status, answer, replayed = await create(relay, "k1", notify=["hook"])
        assert (status, answer["task_id"], replayed) == (201, "t1", False)
        assert len(keys(fake)) == 3
        assert len(set(keys(fake))) == 1
        assert keys(fake)[0] != "k1", "callers' keys never meet upstream"
        await hook.wait_for(1)
        assert await create(relay, "k1", notify=["hook"]) == (200, answer, True)
        assert len(keys(fake)) == 3


async def test_concurrent_copies_of_one_create_make_one_task(tmp_path: Path) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        answered = asyncio.Event()
        fake.create(upstream.Later(CREATED, answered))
        copies = [asyncio.ensure_future(create(relay, "k1")) for _ in range(10)]
        other = asyncio.ensure_future(create(relay, "k1", input={"prompt": "a dog"}))
        await creates(fake, 1)
        async with asyncio.timeout(10):
            await asyncio.wait([other, *copies], return_when=asyncio.FIRST_COMPLETED)
        answered.set()
        results = await asyncio.gather(*copies)
        if (await other)[0] == 409:
            assert sorted(status for status, _, _ in results) == [200] * 9 + [201]
        assert len(keys(fake)) == 1


async def test_a_replay_adds_its_destinations(tmp_path: Path) -> None:
    async with (
        receivers.serve() as first,
        receivers.serve() as second,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"first": harness.webhook(first), "second": harness.webhook(second)}
        ) as relay,
    ):
        fake.create(CREATED)
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        await create(relay, "k1", notify=["first"])
        assert (await create(relay, "k1", notify=["second"]))[0] == 200
        fake.events("t1", upstream.Json(DONE))
        await first.wait_for(1)
        await second.wait_for(1)


@pytest.mark.parametrize("status", [400, 402, 422])
async def test_a_refusal_is_told_and_frees_the_key(tmp_path: Path, status: int) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        fake.create(upstream.Json({"detail": "no"}, status=status), CREATED)
        assert (await create(relay, "k1"))[0] == status
        assert (await create(relay, "k1"))[0] == 201
        assert len(set(keys(fake))) == 2


async def test_a_refusal_that_could_not_be_stored_is_stored_later_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream.running() as fake:
        fake.create(upstream.Json({"detail": "no credits"}, status=402))
        async with harness.running(tmp_path, fake) as relay:
            store = relay.running.services.store
            reject, tries = store.reject_submission, 0

            async def failing(submission_id: str, **settling: Any) -> None:
                nonlocal tries
                tries += 1
                if tries < 3:
                    raise errors.StoreUnavailable("locked")
                await reject(submission_id, **settling)

            monkeypatch.setattr(store, "reject_submission", failing)
            assert (await create(relay))[0] == 402
            assert tries == 3
        fake.create(CREATED)
        async with harness.running(tmp_path, fake) as relay:
            assert await relay.running.services.store.open_submissions() == []
        assert len(keys(fake)) == 1


async def test_without_an_answer_in_time_the_key_to_ask_again_with_is_named(tmp_path: Path) -> None:
    async with (
        upstream.running() as fake,
        harness.running(tmp_path, fake, upstream_options={"submit_timeout": 0.3}) as relay,
    ):
        fake.create(upstream.Hang(), CREATED)
        async with relay.session.post(f"{relay.url}/api/v1/tasks", json=REQUEST) as reply:
            assert reply.status == 504
            key = reply.headers["Idempotency-Key"]
        await creates(fake, 2)
        async with asyncio.timeout(10):
            while (answer := await create(relay, key))[0] != 200:
                await asyncio.sleep(0.05)
        assert answer[1]["task_id"] == "t1"
        assert len(set(keys(fake))) == 1


async def test_a_create_cut_by_a_drain_is_answered_and_taken_up_at_the_next_start(tmp_path: Path) -> None:
    server = {"port": 0, "drain_timeout": 0.2}
    async with upstream.running() as fake:
        fake.create(upstream.Hang(), CREATED)
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {harness.ADMIN_KEY}"}) as session:
            async with harness.running(tmp_path, fake, server=server) as relay:
                asking = asyncio.ensure_future(create(harness.Client(relay.url, session), "k1"))
                await creates(fake, 1)
            status, problem, _ = await asking
            assert status == 504
            assert "stopping" in problem["detail"]
        async with harness.running(tmp_path, fake, server=server) as relay:
            async with asyncio.timeout(10):
                while (await relay.call("GET", "/tasks/t1"))[0] != 200:
                    await asyncio.sleep(0.02)
            assert (await create(relay, "k1"))[0] == 200
        assert len(keys(fake)) == 2
        assert len(set(keys(fake))) == 1


async def test_a_create_without_an_answer_is_left_to_the_operator_and_never_asked_again(
    tmp_path: Path,
) -> None:
    """After the window the upstream may have forgotten the key: once more could be charged twice."""
    async with receivers.serve() as operator, upstream.running() as fake:
        destinations = {"ops": harness.webhook(operator)}
        options = {"submit_timeout": 0.2}
        fake.create(upstream.Status(503, b""))
        settings: dict[str, Any] = {"operator": {"notify": ["ops"]}, "upstream_options": options}
        async with harness.running(tmp_path, fake, destinations, **settings) as relay:
            assert (await create(relay, "k1"))[0] == 504
            await creates(fake, 1)
            relay.advance(3601)
            [notice] = await operator.wait_for(1)
            assert notice.json["type"] == "relay.operator.submission_unresolved"  # type: ignore[index]
            fake.create(CREATED)
            asked = len(keys(fake))
            status, problem, _ = await create(relay, "k1")
            assert status == 504
            assert "not asked again" in problem["detail"]
        async with harness.running(tmp_path, fake, destinations, **settings) as relay:
            relay.advance(3601)
            assert (await create(relay, "k1"))[0] == 504
        assert len(keys(fake)) == asked
        assert len(operator.requests) == 1


async def test_a_created_task_that_cannot_be_stored_is_told_to_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        receivers.serve() as operator,
        upstream.running() as fake,
        harness.running(
            tmp_path, fake, {"ops": harness.webhook(operator)}, operator={"notify": ["ops"]}
        ) as relay,
    ):
        fake.create(CREATED)
        writes = relay.running.services.intake._recorder._writes

        async def refusing(batch: Sequence[store_base.TaskWrite]) -> Any:
            return [errors.StoreRejected("the database refused a value")] * len(batch)

        monkeypatch.setattr(writes, "_write", refusing)
        status, problem, _ = await create(relay, "k1")
        assert status == 504
        assert "t1" in problem["detail"]
        await operator.wait_for(1)
        assert await relay.running.services.store.open_submissions() == []


async def test_a_created_task_waits_for_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream.running() as fake, harness.running(tmp_path, fake) as relay:
        fake.create(CREATED)
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        writes = relay.running.services.intake._recorder._writes
        commit, tries = writes._write, 0

        async def failing(batch: Sequence[store_base.TaskWrite]) -> Any:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise errors.StoreUnavailable("locked")
            return await commit(batch)

        monkeypatch.setattr(writes, "_write", failing)
        assert (await create(relay))[0] == 201
        assert (await relay.task("t1"))["task_id"] == "t1"
        assert len(keys(fake)) == 1


async def test_a_kill_while_the_create_is_under_way_makes_no_second_task(tmp_path: Path) -> None:
    async with upstream.running() as fake:
        fake.create(upstream.Hang(), CREATED)
        fake.events("t1", upstream.Json([]))
        fake.task("t1", upstream.Json(body("processing")))
        process = harness.Process(tmp_path, harness.overrides(tmp_path, fake, {}))
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                asking = asyncio.ensure_future(create(harness.Client(process.url, session), "k1"))
                await creates(fake, 1)
                await process.stop()
                with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a lost connection raises
                    await asking
            await process.start()
            await creates(fake, 2)
            async with harness.caller(process.url) as session:
                client = harness.Client(process.url, session)
                async with asyncio.timeout(10):
                    while (await create(client, "k1"))[0] != 200:
                        await asyncio.sleep(0.05)
        finally:
            await process.stop()
        assert len(set(keys(fake))) == 1
        assert json.loads(next(r.body for r in fake.requests if r.method == "POST")) == REQUEST
