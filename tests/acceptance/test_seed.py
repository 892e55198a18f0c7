"""The documentation's own curl lines, run against relay with host and key changed and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import standardwebhooks

from tests import harness
from tests.fakes import receivers

CREATE = """curl -X POST https://api.mindvideo.ai/api/v1/tasks \\
-H "Authorization: Bearer mv_live_xxx" \\
-H "Content-Type: application/json" \\
-H "Idempotency-Key: task_$(date +%s)" \\
-d '{
"model": "minimax-hailuo-2-3",
"input": {
"prompt": "A cinematic portrait shot with smooth camera movement and realistic lighting.",
"resolution": "768p",
"duration": 6
}
}'"""
SHOW = """curl https://api.mindvideo.ai/api/v1/tasks/task_demo_model \\
-H "Authorization: Bearer mv_live_xxx\""""
EVENTS = """curl https://api.mindvideo.ai/api/v1/tasks/task_demo_model/events \\
-H "Authorization: Bearer mv_live_xxx\""""


async def curl(line: str, *, url: str, key: str, task: str = "") -> dict[str, Any]:
    """Run one of the lines; the body of the answer."""
    line = line.replace("https://api.mindvideo.ai", url).replace("mv_live_xxx", key)
    if task:
        line = line.replace("task_demo_model", task)
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], capture_output=True, check=True, timeout=30
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_the_seeds_lines_work_against_relay_and_against_the_sandbox(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        hook = await stack.enter_async_context(receivers.serve())
        sandbox = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "sandbox", "--port", "0", "--speed", "200"),
            stdout=asyncio.subprocess.PIPE,
            env=harness.environment(),
        )
        stack.push_async_callback(sandbox.wait)
        stack.callback(sandbox.terminate)
        assert sandbox.stdout is not None
        line = (await sandbox.stdout.readline()).decode()
        assert line.startswith("relay sandbox listening on http://127.0.0.1:")

        class Upstream:
            url = line.split("listening on ")[1].strip()
            key = "mv_test_sandbox"

        config = harness.overrides(
            tmp_path,
            Upstream(),
            {"pipeline": harness.webhook(hook)},
            routes=[{"notify": ["pipeline"]}],
        )
        process = harness.Process(tmp_path, config)
        stack.push_async_callback(process.stop)
        await process.start()
        for url, key in ((process.url, harness.ADMIN_KEY), (Upstream.url, Upstream.key)):
            created = await curl(CREATE, url=url, key=key)
            assert set(created) == {"request_id", "task_id", "status", "cost_estimate"}
            assert created["cost_estimate"] == 0.3294
            task = created["task_id"]
            async with asyncio.timeout(30):
                while (shown := await curl(SHOW, url=url, key=key, task=task))["status"] != "succeeded":
                    await asyncio.sleep(0.1)
            assert shown["cost_actual"] == 0.3294
            assert shown["output"]["videos"][0]["url"].endswith(".mp4")
            events = await curl(EVENTS, url=url, key=key, task=task)
            assert events["status"] == "succeeded"
            assert [one["status"] for one in events["events"]][-1] == "succeeded"
            if url == process.url:
                [request] = await hook.wait_for(1)
                body = standardwebhooks.Webhook(harness.SECRET).verify(request.body, request.headers)
                assert body["type"] == "task.succeeded"
                assert body["data"]["task_id"] == task
        assert len(hook.requests) == 1
