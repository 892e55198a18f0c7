"""What was composed for one kind of destination is told to another: composed anew, under its id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay import settings
from relay.store import destinations as stored
from tests import harness
from tests.fakes import receivers, sandbox

FAST = {"failing": {"resume_rate": 1000.0}}


@pytest.fixture
async def hook() -> AsyncIterator[receivers.Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


@pytest.fixture
async def upstream() -> AsyncIterator[sandbox.RunningSandbox]:
    async with sandbox.running_sandbox(stepped=True) as running:
        yield running


def chat(hook: receivers.Receiver, **more: Any) -> dict[str, Any]:
    hook.answer = receivers.Answer(status=200, body=b"{}")
    return {"url": f"ntfy://127.0.0.1:{hook.port}/renders", "schedule": [0, 0.1], **more}


async def test_a_chat_that_was_away_is_told_what_ended_meanwhile(
    tmp_path: Path, hook: receivers.Receiver, upstream: sandbox.RunningSandbox
) -> None:
    """Nobody knew what it was when that was composed."""
    phone = {"phone": chat(hook)}
    async with harness.running(tmp_path, upstream, phone, **FAST) as relay:

        async def reload(destinations: dict[str, Any]) -> None:
            changed = harness.overrides(tmp_path, upstream, destinations, **FAST)
            await relay.running.reload(settings.load(environ={}, overrides=changed))

        await relay.submit(notify=["phone"])
        await reload({})
        upstream.finish()
        [held] = await relay.until_state("held")
        await reload(phone)
        [request] = await hook.wait_for(1)
        assert "succeeded" in request.body.decode()
        [done] = await relay.until_state("delivered")
        assert (done["id"], done["attempts_made"]) == (held["id"], 1)


async def test_a_webhook_that_became_a_chat_is_told_as_a_chat(
    tmp_path: Path, hook: receivers.Receiver, upstream: sandbox.RunningSandbox
) -> None:
    async with (
        receivers.serve() as former,
        harness.running(tmp_path, upstream, **FAST) as relay,
    ):
        registry = relay.running.services.destinations
        former.answer = receivers.Answer(status=500)
        await registry.create("made", harness.webhook(former, schedule=[0, 600]))
        await relay.submit(notify=["made"])
        upstream.finish()
        await relay.until_state("pending", reason="http_500")
        await registry.delete("made")
        await registry.create("made", chat(hook))
        await relay.later(2000)
        [request] = await hook.wait_for(1)
        assert "succeeded" in request.body.decode()
        await relay.until_state("delivered")


async def test_a_chat_that_became_a_webhook_is_told_as_one(
    tmp_path: Path, hook: receivers.Receiver, upstream: sandbox.RunningSandbox
) -> None:
    async with receivers.serve() as room, harness.running(tmp_path, upstream, **FAST) as relay:
        registry = relay.running.services.destinations
        await registry.create("made", chat(room))
        await registry.pause("made")
        task = await relay.submit(notify=["made"], metadata={"order": 7})
        upstream.finish()
        [held] = await relay.until_state("held")
        await registry.change("made", harness.webhook(hook))
        await registry.resume("made", stored.Which.ALL)
        [request] = await hook.wait_for(1)
        body = request.json
        assert isinstance(body, dict)
        assert (body["type"], body["data"]["task_id"]) == ("task.succeeded", task)
        assert body["data"]["metadata"] == {"order": 7}
        assert request.headers["webhook-id"] == held["id"]
        assert not room.requests


async def test_an_operator_s_notice_becomes_another_kind_too(
    tmp_path: Path, hook: receivers.Receiver, upstream: sandbox.RunningSandbox
) -> None:
    async with harness.running(
        tmp_path, upstream, {"ops": chat(hook)}, operator={"notify": ["ops"]}
    ) as relay:
        await relay.running.services.destinations.pause("ops")
        await relay.running.services.dispatcher.notify_operator("trouble", key="x", text="the lamp is out")
        await relay.until_state("held")
    hook.answer = receivers.Answer()
    destinations = {"ops": harness.webhook(hook)}
    async with harness.running(tmp_path, upstream, destinations, operator={"notify": ["ops"]}) as relay:
        await relay.running.services.destinations.resume("ops", stored.Which.ALL)
        [request] = await hook.wait_for(1)
        body = request.json
        assert isinstance(body, dict)
        assert (body["type"], body["data"]["text"]) == ("relay.operator.trouble", "the lamp is out")
