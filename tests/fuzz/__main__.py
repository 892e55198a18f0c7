"""Fuzz relay and the sandbox at length: ``python -m tests.fuzz --cases 2000``.

The seed is printed, so a run can be repeated. Exits 1 where anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz import running

PER_OPERATION = 50


async def run(*, cases: int, seed: int) -> list[running.Report]:
    """The reports, printed as they come."""
    reports = []
    with tempfile.TemporaryDirectory(prefix="relay-fuzz-") as directory:
        found = await running.relay(Path(directory), cases=cases, per_operation=PER_OPERATION, seed=seed)
        reports.append(found)
        print(found, flush=True)
    for shape, share in (("json", cases), ("sse", cases // 4), ("ndjson", cases // 4)):
        found = await running.of_the_sandbox(cases=share, per_operation=PER_OPERATION, seed=seed, shape=shape)
        reports.append(found)
        print(found, flush=True)
    return reports


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="requests to each, at least")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    reports = asyncio.run(run(cases=options.cases, seed=seed))
    return 1 if any(report.findings or report.untested for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
