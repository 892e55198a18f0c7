"""From a submitted task to what the receiver was told, through every kind of destination."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme

from tests import harness
from tests.fakes import receivers, sandbox, smtp


def verified(request: receivers.Request) -> dict[str, Any]:
    """The body, after an independent implementation has checked the signature."""
    body: dict[str, Any] = standardwebhooks.Webhook(harness.SECRET).verify(request.body, request.headers)
    return body


@pytest.mark.parametrize("events", ["json", "sse", "ndjson", "absent"])
async def test_webhook_is_told_once_whatever_the_events_look_like(tmp_path: Path, events: Any) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=400, events=events) as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        task = await relay.submit(notify=["pipeline"], metadata={"order": 7})
        [request] = await hook.wait_for(1, timeout=30)
        told = verified(request)
        assert told["type"] == "task.succeeded"
        assert told["data"]["task_id"] == task
        assert told["data"]["metadata"] == {"order": 7}
        assert told["data"]["cost_actual"] == 0.3294
        assert told["data"]["output"]["videos"][0]["url"].startswith(upstream.url)
        await relay.until_state("delivered")
        [delivery] = await relay.deliveries()
        assert delivery["id"] == request.headers["webhook-id"]
        assert len(hook.requests) == 1


@pytest.mark.parametrize(("word", "kind"), [("[fail]", "task.failed"), ("[cancel]", "task.cancelled")])
async def test_other_ends_are_told_as_what_they_are(tmp_path: Path, word: str, kind: str) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=400) as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        await relay.submit(notify=["pipeline"], prompt=f"a cat {word}")
        [request] = await hook.wait_for(1, timeout=30)
        assert verified(request)["type"] == kind


async def test_a_receiver_at_a_private_address_is_refused_by_rule_and_never_dialled(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=400) as upstream,
        harness.running(
            tmp_path, upstream, {"pipeline": harness.webhook(hook)}, network={"allow_private": []}
        ) as relay,
    ):
        await relay.submit(notify=["pipeline"])
        async with asyncio.timeout(30):
            while not (found := await relay.deliveries()) or not found[0]["attempts_made"]:
                await asyncio.sleep(0.02)
        delivery = await relay.delivery(found[0]["id"])
        assert delivery["state"] == "pending"
        assert delivery["reason"] == "address_refused"
        assert "loopback" in delivery["attempts"][0]["detail"]
        assert hook.connections == 0


async def test_three_channels_hear_of_one_task(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(tls)
    async with contextlib.AsyncExitStack() as stack:
        hook = await stack.enter_async_context(receivers.serve())
        ntfy = await stack.enter_async_context(receivers.serve())
        ntfy.answer = receivers.Answer(status=200, body=b"{}")
        mail = await stack.enter_async_context(smtp.serve(tls=tls, login=("user", "password")))
        upstream = await stack.enter_async_context(sandbox.running_sandbox(speed=400))
        relay = await stack.enter_async_context(
            harness.running(
                tmp_path,
                upstream,
                {
                    "pipeline": harness.webhook(hook),
                    "phone": {"url": f"ntfy://127.0.0.1:{ntfy.port}/renders"},
                    "inbox": {
                        "url": f"mailto://user:password@127.0.0.1:{mail.port}/"
                        "?from=relay@example.com&to=me@example.com&mode=starttls"
                    },
                },
                network={"allow_private": harness.LOOPBACK, "ca_file": str(tmp_path / "ca.pem")},
            )
        )
        await relay.submit(notify=["pipeline", "phone", "inbox"])
        [request] = await hook.wait_for(1, timeout=30)
        [letter] = await mail.wait_for(1, timeout=30)
        [pushed] = await ntfy.wait_for(1, timeout=30)
        link = verified(request)["data"]["output"]["videos"][0]["url"]
        assert letter.encrypted
        assert link in letter.text.replace("=\n", "")
        assert link in pushed.body.decode()
        assert "succeeded" in str(letter.message["subject"])
        async with asyncio.timeout(10):
            while len(await relay.deliveries(state="delivered")) < 3:
                await asyncio.sleep(0.02)


async def test_routes_decide_where_the_registration_names_nobody(tmp_path: Path) -> None:
    async with (
        receivers.serve() as failures,
        receivers.serve() as everything,
        sandbox.running_sandbox(speed=400) as upstream,
        harness.running(
            tmp_path,
            upstream,
            {"oncall": harness.webhook(failures), "all": harness.webhook(everything)},
            routes=[
                {"when": {"status": ["failed"], "model": "minimax-*"}, "notify": ["oncall"]},
                {"notify": ["all"]},
            ],
        ) as relay,
    ):
        good = await relay.submit()
        bad = await relay.submit(prompt="[fail]")
        [told_all] = await everything.wait_for(1, timeout=30)
        [told_oncall] = await failures.wait_for(1, timeout=30)
        assert verified(told_all)["data"]["task_id"] == good
        assert verified(told_oncall)["data"]["task_id"] == bad


async def test_a_task_known_to_the_upstream_only_is_registered_and_told(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(stepped=True) as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        task = await upstream.submit()
        assert await relay.watch(task, notify=["pipeline"]) == 201
        assert await relay.watch(task, notify=["pipeline"]) == 200
        upstream.finish()
        [request] = await hook.wait_for(1)
        assert verified(request)["data"]["task_id"] == task
        await relay.until_verdict(task, "ended")
        # Registering what has ended already tells at once.
        assert await relay.watch(f"mindvideo:{task}", notify=["pipeline"], metadata={"late": True}) == 200
        status, _ = await relay.call("DELETE", f"/tasks/{task}")
        assert status == 204
        assert len(hook.requests) == 1


async def test_destinations_hear_only_the_statuses_they_want(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=100) as upstream,
        harness.running(
            tmp_path,
            upstream,
            {"pipeline": harness.webhook(hook, statuses=["queued", "processing", "succeeded"])},
        ) as relay,
    ):
        await relay.submit(notify=["pipeline"])
        requests = await hook.wait_for(3, timeout=30)
        assert sorted(verified(r)["type"] for r in requests) == [
            "task.processing",
            "task.queued",
            "task.succeeded",
        ]
