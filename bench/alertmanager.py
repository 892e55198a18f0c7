"""Debian's Alertmanager sending webhooks, as something to compare with. It listens on loopback only.

Every alert is a group of its own and is told at once, so that one alert is one webhook.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp

from bench import peers

NAME: Final = "prometheus-alertmanager"
TIMEOUT: Final = 60.0
BATCH: Final = 100

CONFIG: Final = """\
route:
  receiver: hook
  group_by: ['...']
  group_wait: 0s
  group_interval: 1h
  repeat_interval: 24h
receivers:
  - name: hook
    webhook_configs:
      - url: {url}/hooks/render
        send_resolved: false
"""


async def cpu_per_webhook(binary: str, receiver: peers.Peer, *, webhooks: int) -> float:
    """CPU seconds, of all its threads, per webhook that ``receiver`` took."""
    async with _running(binary, receiver) as (pid, url), aiohttp.ClientSession() as session:
        before = _cpu(pid)
        for start in range(0, webhooks, BATCH):
            alerts = [
                {
                    "labels": {"alertname": "ended", "task": f"task_{number}"},
                    "annotations": {"text": "x" * 300},
                }
                for number in range(start, min(start + BATCH, webhooks))
            ]
            async with session.post(f"{url}/api/v2/alerts", json=alerts) as response:
                response.raise_for_status()
        async with asyncio.timeout(TIMEOUT):
            taken = await receiver.taken()
            while taken < webhooks:
                await asyncio.sleep(0.1)
                taken = await receiver.taken()
        return (_cpu(pid) - before) / taken


@contextlib.asynccontextmanager
async def _running(binary: str, receiver: peers.Peer) -> AsyncIterator[tuple[int, str]]:
    """Run it until the block ends; its process id and URL."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        config = Path(directory) / "alertmanager.yml"
        config.write_text(CONFIG.format(url=receiver.url))
        address = f"127.0.0.1:{_free_port()}"
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--config.file={config}",
            f"--storage.path={directory}/data",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
            "--log.level=error",
        )
        try:
            await _until_ready(f"http://{address}/-/ready", process)
            yield process.pid, f"http://{address}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _until_ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(TIMEOUT), aiohttp.ClientSession() as session:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{NAME} ended with {process.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu(pid: int) -> float:
    """CPU seconds that the process used so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
