"""``relay demo``: the main job with nothing to set up, in one process, on this machine only.

A sandbox stands in for the API, the real daemon watches, a receiver verifies what it is told. All
of it lives on free loopback ports and in a temporary directory that goes when the demo does. Read
``_play`` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rich_click as click

from relay.cli import client, listen, output, signals, waiting
from relay.domain import model, wording

REQUEST: Final = {
    "model": "minimax-hailuo-2-3",
    "input": {
        "prompt": "A cinematic portrait shot with smooth camera movement and realistic lighting.",
        "resolution": "768p",
        "duration": 6,
    },
}
"""The request that the relayed API's documentation shows."""

SPEED: Final = 30.0
SEED: Final = 4
"""With this seed the first task takes some 115 s of the sandbox's time: four seconds at this speed."""

PATIENCE: Final = 30.0
"""Seconds until the demo gives up; it takes about five."""

INTERVAL: Final = 0.1
"""Seconds between two looks at the task."""

OUTPUT_MAX: Final = 16 * 1024 * 1024
"""Bytes of the output that are fetched."""


@dataclass
class _Stage:
    """What is up and running. ``told`` holds what the receiver was told and when (monotonic)."""

    sandbox_url: str
    relay_url: str
    receiver_url: str
    admin_key: str
    told: asyncio.Queue[tuple[float, listen.Received]]


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C, to try things.")
def demo(*, keep: bool) -> None:
    """Show the main job, start to end, with nothing to set up.

    Submits a generation to a sandbox through relay, and receives the signed notification of its end.
    """
    asyncio.run(_demo(keep=keep))


async def _demo(*, keep: bool) -> None:
    show_all = asyncio.Event()
    async with _stage(show_all) as stage:
        try:
            async with asyncio.timeout(PATIENCE):
                key = await _play(stage)
        except TimeoutError:
            raise output.Failed(f"the demo did not get through in {PATIENCE:g} s") from None
        if not keep:
            return
        show_all.set()
        output.line()
        output.line("All of it goes on running until Ctrl-C. In another terminal:")
        output.line()
        output.line(f"  export RELAY_URL={stage.relay_url} RELAY_API_KEY={key}")
        output.line(f"  relay submit {REQUEST['model']} -i prompt='A cat in the rain' --wait")
        output.line("  relay deliveries ls")
        output.line(f"  curl -H 'Authorization: Bearer {key}' {stage.relay_url}/api/v1/tasks")
        output.line()
        await signals.stopped()


@contextlib.asynccontextmanager
async def _stage(show_all: asyncio.Event) -> AsyncIterator[_Stage]:
    """Sandbox, receiver and daemon, up and running; what comes later is printed once ``show_all``."""
    import secrets

    from relay import daemon, logs, settings
    from relay.sandbox import app as sandbox_app
    from relay.sandbox import server
    from relay.senders import signing

    logs.configure(level="error", style="text")
    told: asyncio.Queue[tuple[float, listen.Received]] = asyncio.Queue()

    def hear(received: listen.Received) -> None:
        told.put_nowait((time.monotonic(), received))
        if show_all.is_set():
            listen.show(received)

    secret = secrets.token_bytes(32)
    admin_key = secrets.token_urlsafe(32)
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-"))
        sandbox, sandbox_url = await server.serve(sandbox_app.create_app(speed=SPEED, seed=SEED))
        stack.push_async_callback(sandbox.cleanup)
        receiver, receiver_url = await server.serve(listen.Receiver([secret], told=hear).app())
        stack.push_async_callback(receiver.cleanup)
        chosen = settings.load(
            environ={},
            overrides={
                "server": {"port": 0, "drain_timeout": 1.0},
                "store": {"url": f"sqlite:///{Path(directory) / 'relay.db'}"},
                "upstreams": {
                    "mindvideo": {
                        "base_url": sandbox_url,
                        "api_key": sandbox_app.DEFAULT_KEY,
                        "poll_interval_min": 0.25,
                        "poll_interval_max": 1.0,
                    }
                },
                "destinations": {
                    "receiver": {"url": receiver_url, "secret": signing.format_secret(secret)},
                },
                "routes": [{"notify": ["receiver"]}],
                "network": {"allow_private": ["127.0.0.0/8"]},
                "security": {"admin_key": admin_key},
            },
        )
        running = await stack.enter_async_context(daemon.running(chosen))
        yield _Stage(
            sandbox_url=sandbox_url,
            relay_url=running.url,
            receiver_url=receiver_url,
            admin_key=admin_key,
            told=told,
        )


async def _play(stage: _Stage) -> str:
    """The demo itself; returns the API key that was made. Raises ``output.Failed``."""
    output.line("relay demo: one generation from start to end, on this machine only")
    output.line()
    output.line(f"  sandbox   {stage.sandbox_url:<24}  stands in for the MindVideo API")
    output.line(f"  relay     {stage.relay_url:<24}  watches it, and tells")
    output.line(f"  receiver  {stage.receiver_url:<24}  your backend, checking signatures")
    output.line()
    async with client.connected(
        {"RELAY_URL": stage.relay_url, "RELAY_API_KEY": stage.admin_key}
    ) as administrator:
        made = await administrator.ask("POST", "/keys", body={"name": "demo", "role": "admin"})
    key = str(made.json()["key"])
    idempotency_key = f"task_{int(time.time())}"
    output.line("Submitted to relay, the way one submits to the API itself:")
    output.line()
    _show_request(stage.relay_url, key, idempotency_key)
    output.line()
    async with client.connected({"RELAY_URL": stage.relay_url, "RELAY_API_KEY": key}) as daemon:
        started = time.monotonic()
        answer = await daemon.ask(
            "POST", "/tasks", body=REQUEST, headers={"Idempotency-Key": idempotency_key}
        )
        task_id = str(answer.json()["task_id"])
        ended_at = await _follow(daemon, task_id, cost=waiting.cost(answer.json()), started=started)
    told_at, notification = await stage.told.get()
    output.line()
    lag = max(0.0, told_at - ended_at)
    output.line(f"Told to the receiver {'at once' if lag < INTERVAL else f'{lag:.1f} s later'}:")
    output.line()
    output.pretty(json.dumps(notification.body, ensure_ascii=False))
    output.line()
    await _check(notification)
    return key


def _show_request(url: str, key: str, idempotency_key: str) -> None:
    """The request as one would type it."""
    body = json.dumps(REQUEST, indent=2).replace("\n", "\n  ")
    for text in (
        f"curl -X POST {url}/api/v1/tasks \\",
        f'  -H "Authorization: Bearer {key}" \\',
        '  -H "Content-Type: application/json" \\',
        f'  -H "Idempotency-Key: {idempotency_key}" \\',
        f"  -d '{body}'",
    ):
        output.line(f"  {text}")


async def _follow(daemon: client.Daemon, task_id: str, *, cost: str | None, started: float) -> float:
    """Print each status as it comes; returns when (monotonic) the last one was seen."""
    shown: str | None = None
    while True:
        body = (await daemon.ask("GET", client.task_path(task_id))).json()
        status = waiting.standing(body)
        if status != shown:
            seconds = time.monotonic() - started
            about = f"{task_id}, cost {cost}" if shown is None else ""
            output.line(f"  {seconds:4.1f} s  {status:<11} {about}".rstrip())
            shown = status
        if model.Verdict(body["relay"]["verdict"]).final:
            return time.monotonic()
        await asyncio.sleep(INTERVAL)


async def _check(notification: listen.Received) -> None:
    """Say what the notification is worth. Raises ``output.Failed`` unless it is all it should be."""
    if notification.problem is not None:
        raise output.Failed(f"the notification's signature does not hold: {notification.problem}")
    kind = str(notification.body.get("type"))
    data: dict[str, Any] = notification.body.get("data") or {}
    links = list(wording.output_links(data.get("output")))
    if kind != model.Change.SUCCEEDED.type or not links:
        raise output.Failed(f"the notification is a {kind} with {len(links)} outputs, not a success with one")
    size, content_type = await _fetch(links[0])
    output.fields(
        {
            "notification": kind,
            "signature": "verified",
            "cost": waiting.cost(data),
            "output": links[0],
            "fetched": f"{size} bytes of {content_type}",
        }
    )


async def _fetch(url: str) -> tuple[int, str]:
    """Size and type of what is at ``url``. Raises ``output.Failed``."""
    import aiohttp

    limits = aiohttp.ClientTimeout(total=10.0)
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=limits) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            size = len(await response.content.read(OUTPUT_MAX))
            if response.status != 200 or not size:
                raise output.Failed(f"the output cannot be fetched: HTTP {response.status}, {size} bytes")
            return size, response.content_type
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise output.Failed(f"the output cannot be fetched: {type(exc).__name__}") from None
