"""How long ``relay serve`` takes until it listens, and what it holds in memory while it has nothing to do.

The daemon has one upstream and one webhook, which is "without chat destinations". Best of three:
anything else on the machine only adds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import product

RUNS: Final = 3
SETTLE: Final = 2.0
"""Seconds until every loop has ticked and nothing of the start is left to do."""

START_TIMEOUT: Final = 10.0

CONFIG: Final = f"""
[server]
port = 0
[upstreams.mindvideo]
base_url = "http://127.0.0.1:9"
api_key = "{product.API_KEY}"
[destinations.pipeline]
url = "https://example.com/hooks/render"
secret = "{product.SECRET}"
"""


def main() -> None:
    """Print every run and the best figures."""
    runs = [_run(number) for number in range(1, RUNS + 1)]
    print(
        f"bench idle start_seconds={min(start for start, _ in runs):.2f}"
        f" resident_mb={min(resident for _, resident in runs):.1f}"
    )


def _run(number: int) -> tuple[float, float]:
    """Seconds until it listens, and resident megabytes (10⁶ bytes) some seconds later."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        config = Path(directory) / "relay.toml"
        config.write_text(CONFIG, encoding="utf-8")
        config.chmod(0o600)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=directory,
            env=_environment(),
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            started = time.perf_counter() - began
            if "listening" not in line:
                raise RuntimeError("relay serve did not start; run it by hand to see why")
            time.sleep(SETTLE)
            resident = _resident(process.pid)
        finally:
            process.terminate()
            process.wait(START_TIMEOUT)
    print(f"idle run {number}: listening after {started:.2f} s, resident {resident:.1f} MB", flush=True)
    return started, resident


def _environment() -> dict[str, str]:
    """This one without settings of relay's, and with this checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[1])}


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6
