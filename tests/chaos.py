"""kill -9 of the daemon, again and again, while tasks run: is every end told, and recognisably?

    python -m tests.chaos --kills 30 [--tasks 200] [--seed N] [--minutes M] [--state FILE]

Many kills are done in rounds of ``ROUND_KILLS``, each on a new database. With ``--state`` what was done
is kept in a file after each round, and the next run with that file goes on behind it: so a thousand
kills need not be one sitting.

Tasks are submitted through relay to the sandbox all the while, each under its own Idempotency-Key
and again with that key whenever relay was not there to answer. At the end the set of ids told is
reconciled with the set that ended. Exits 0 when nothing is missing, every duplicate carries the id
of its first delivery, no create became two tasks, and no process of a killed daemon is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests import harness
from tests.fakes import receivers, sandbox

SPEED = 60.0
"""How much faster than life the sandbox runs: a task of the seed's model takes about two seconds."""

ALIVE_MAX = 1.5
"""Longest time that a daemon lives before it is killed, seconds."""

GONE_WITHIN = 15.0
"""Seconds after which no process of a killed daemon may be left."""

QUIET = 120.0
"""Longest wait for the last tasks to be told once nobody is killed any more, seconds."""

ROUND_KILLS = 50
"""Kills on one database; then it is reconciled and the next round begins on a new one."""


@dataclass
class Report:
    """What came of it."""

    kills: int
    tasks: int
    seed: int
    missing: list[str] = field(default_factory=list)
    duplicates: int = 0
    strange: list[str] = field(default_factory=list)
    extra_tasks: int = 0
    left_behind: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every promise held."""
        return not (self.missing or self.strange or self.extra_tasks or self.left_behind)

    def __str__(self) -> str:
        return (
            f"chaos kills={self.kills} tasks={self.tasks} seed={self.seed} missing={len(self.missing)} "
            f"duplicates={self.duplicates} duplicates_with_another_id={len(self.strange)} "
            f"extra_upstream_tasks={self.extra_tasks} processes_left={self.left_behind} "
            f"seconds={self.seconds:.0f}"
        )


async def run(*, kills: int, tasks: int, seed: int, directory: Path) -> Report:
    """Do it once. ``seed`` decides when the daemon is killed."""
    report = Report(kills=kills, tasks=tasks, seed=seed)
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        hook = await stack.enter_async_context(receivers.serve())
        stuck = await stack.enter_async_context(receivers.serve())
        stuck.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
        upstream = await stack.enter_async_context(sandbox.running_sandbox(speed=SPEED, seed=seed))
        config = harness.overrides(
            directory,
            upstream,
            {
                "pipeline": harness.webhook(hook, schedule=[0, 0.2, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
                # Hangs, so that a killed daemon leaves a worker in the middle of a send.
                "phone": {"url": f"ntfy://127.0.0.1:{stuck.port}/renders"},
            },
        )
        config["server"]["port"] = await free_port()
        process = harness.Process(directory, config)
        process.url = f"http://127.0.0.1:{config['server']['port']}"
        stack.push_async_callback(process.stop)
        submitting = asyncio.create_task(_submit_all(process.url, tasks, over=kills * (ALIVE_MAX / 2 + 1.0)))
        groups = await _kill_again_and_again(process, kills, random.Random(seed))
        await process.start()
        created = await submitting
        await _until_told(hook, created)
        _reconcile(report, hook, created, upstream)
        report.left_behind = await _left_behind(groups)
    report.seconds = time.monotonic() - started
    return report


async def free_port() -> int:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def _kill_again_and_again(process: harness.Process, kills: int, rng: random.Random) -> list[int]:
    """Start and kill; some die while they start. The process groups that were killed."""
    groups = []
    for _ in range(kills):
        if rng.random() < 0.2:
            await process.launch()
            await asyncio.sleep(rng.uniform(0.0, 1.0))
        else:
            await process.start()
            await asyncio.sleep(rng.uniform(0.0, ALIVE_MAX))
        process.signal(signal.SIGKILL)
        await process.wait()
        groups.append(process.pid)
    return groups


async def _submit_all(url: str, tasks: int, *, over: float) -> list[str]:
    """Submit one after the other, spread over so many seconds; their upstream ids."""
    created = []
    async with harness.caller(url) as session:
        for number in range(tasks):
            created.append(await _submit(session, url, number))
            await asyncio.sleep(over / tasks)
    return created


async def _submit(session: aiohttp.ClientSession, url: str, number: int) -> str:
    body = {**sandbox.SEED_REQUEST, "notify": ["pipeline"] if number % 10 else ["pipeline", "phone"]}
    headers = {"Idempotency-Key": f"chaos-{number}"}
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(
                    f"{url}/api/v1/tasks", json=body, headers=headers, timeout=aiohttp.ClientTimeout(total=10)
                ) as reply:
                    if reply.status in (200, 201):
                        return str((await reply.json())["task_id"])
            await asyncio.sleep(0.05)


async def _until_told(hook: receivers.Receiver, created: list[str]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET):
            while set(created) - set(_told(hook)):
                await asyncio.sleep(0.1)


def _told(hook: receivers.Receiver) -> dict[str, list[str]]:
    """Task id to the ``webhook-id`` of every terminal notification of it."""
    told: dict[str, list[str]] = defaultdict(list)
    for request in hook.requests:
        body = request.json
        assert isinstance(body, dict)
        if body["type"] in ("task.succeeded", "task.failed", "task.cancelled"):
            told[body["data"]["task_id"]].append(request.headers["webhook-id"])
    return told


def _reconcile(
    report: Report, hook: receivers.Receiver, created: list[str], upstream: sandbox.RunningSandbox
) -> None:
    told = _told(hook)
    report.missing = sorted(set(created) - set(told))
    report.duplicates = sum(len(ids) - 1 for ids in told.values())
    report.strange = sorted(task for task, ids in told.items() if len(set(ids)) > 1)
    asked_for = {
        path.split("/")[4].partition("?")[0] for _, path in upstream.requests if path.count("/") >= 4
    }
    report.extra_tasks = len(asked_for - set(created))


async def _left_behind(groups: list[int]) -> int:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_WITHIN):
            while any(harness.processes_of_group(group) for group in groups):
                await asyncio.sleep(0.2)
    return sum(len(harness.processes_of_group(group)) for group in groups)


@dataclass
class Sum:
    """All rounds so far, as they are kept in the file of ``--state``."""

    seed: int
    rounds: int = 0
    kills: int = 0
    tasks: int = 0
    missing: int = 0
    duplicates: int = 0
    strange: int = 0
    extra_tasks: int = 0
    left_behind: int = 0
    seconds: float = 0.0

    def add(self, report: Report) -> None:
        """Count one more round."""
        self.rounds += 1
        self.kills += report.kills
        self.tasks += report.tasks
        self.missing += len(report.missing)
        self.duplicates += report.duplicates
        self.strange += len(report.strange)
        self.extra_tasks += report.extra_tasks
        self.left_behind += report.left_behind
        self.seconds += report.seconds

    @property
    def ok(self) -> bool:
        """Whether every promise held in every round."""
        return not (self.missing or self.strange or self.extra_tasks or self.left_behind)

    def __str__(self) -> str:
        return (
            f"chaos rounds={self.rounds} kills={self.kills} tasks={self.tasks} seed={self.seed} "
            f"missing={self.missing} duplicates={self.duplicates} "
            f"duplicates_with_another_id={self.strange} extra_upstream_tasks={self.extra_tasks} "
            f"processes_left={self.left_behind} seconds={self.seconds:.0f}"
        )


def round_seed(seed: int, number: int) -> int:
    """The seed of one round, so that it can be repeated alone."""
    return random.Random(f"{seed}/{number}").randrange(2**31)


def run_rounds(total: Sum, *, kills: int, tasks: int, minutes: float, state: Path | None) -> None:
    """Do rounds until so many kills are done, a promise was broken or the time is up."""
    until = time.monotonic() + minutes * 60.0
    while total.kills < kills and total.ok and time.monotonic() < until:
        this = min(ROUND_KILLS, kills - total.kills)
        seed = round_seed(total.seed, total.rounds)
        with tempfile.TemporaryDirectory(prefix="relay-chaos-") as directory:
            report = asyncio.run(run(kills=this, tasks=tasks, seed=seed, directory=Path(directory)))
        print(report, flush=True)
        for line in (*report.missing[:5], *report.strange[:5]):
            print(f"  {line}")
        total.add(report)
        if state is not None:
            state.write_text(json.dumps(dataclasses.asdict(total)))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=200, help="in each round")
    parser.add_argument(
        "--seed", type=int, default=None, help="when to kill; printed, so a run can be repeated"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="start no further round after so many")
    parser.add_argument("--state", type=Path, default=None, help="file that keeps what was done so far")
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    total = Sum(seed=seed)
    if options.state is not None and options.state.exists():
        total = Sum(**json.loads(options.state.read_text()))
    print(f"chaos seed={total.seed}, {total.kills} of {options.kills} kills done", flush=True)
    run_rounds(total, kills=options.kills, tasks=options.tasks, minutes=options.minutes, state=options.state)
    print(total)
    if total.ok and total.kills < options.kills:
        print(f"time is up with {total.kills} of {options.kills} kills; --state goes on from there")
        return 3
    return 0 if total.ok else 1


if __name__ == "__main__":
    sys.exit(main())
