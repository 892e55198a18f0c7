"""schemathesis against a daemon of its own, and against the sandbox: every phase it has.

What counts is a 5xx, a status or type that is not documented, a body or header that does not fit
its schema, bad input that is taken, a route without a key that asks for one, and all else that
schemathesis looks at but one: whether valid data is always taken. It is not, because names of
destinations, upstreams and cursors are known to the server alone.

Streams that never end are bounded: an event or ``STREAM_SECONDS``, whichever comes first, while
tasks run beside so that there are events.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import config, engine
from schemathesis.engine import events

from tests import harness
from tests.fakes import receivers, sandbox

PHASES = ("examples", "coverage", "fuzzing", "stateful")

STREAM_SECONDS = 1.0

REQUEST_SECONDS = 30.0
"""After which an answer counts as missing, which is a finding."""


@dataclass
class Report:
    """What one API went through."""

    name: str
    seed: int
    cases: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests made, by phase."""
    statuses: collections.Counter[int | None] = field(default_factory=collections.Counter)
    findings: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """An example for each (operation, check, title)."""
    untested: set[str] = field(default_factory=set)
    """Operations of the description that were never asked."""

    @property
    def total(self) -> int:
        """Requests made."""
        return sum(self.cases.values())

    def __str__(self) -> str:
        phases = ", ".join(f"{self.cases[phase]} {phase}" for phase in PHASES)
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items(), key=str))
        lines = [f"{self.name}: {self.total} cases with seed {self.seed} ({phases}); answers {statuses}"]
        for (operation, check, title), example in self.findings.items():
            lines.append(f"  {operation}: {check}: {title}\n    " + example.replace("\n", "\n    "))
        return "\n".join(lines)


def fuzz(report: Report, *, url: str, key: str, cases: int, per_operation: int) -> None:
    """Ask the API at ``url`` until ``cases`` requests were made, at least one round. Blocks."""
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=REQUEST_SECONDS) as answer:
        document = json.load(answer)
    operations = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    report.untested |= operations
    for turn in itertools.count():
        settings = _settings(document, url=url, key=key, seed=report.seed + turn, examples=per_operation)
        _round(report, schemathesis.openapi.from_dict(document, config=settings))
        if report.total >= cases or report.findings:
            return


def _settings(
    document: dict[str, Any], *, url: str, key: str, seed: int, examples: int
) -> config.SchemathesisConfig:
    streams = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, told in methods.items()
        if "text/event-stream" in told["responses"].get("200", {}).get("content", {})
    ]
    bounded = {"request-timeout": STREAM_SECONDS, "max-stream-events": 1}
    return config.SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "headers": {"Authorization": f"Bearer {key}"},
            "request-timeout": REQUEST_SECONDS,
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "operations": [{"include-name": name, **bounded} for name in streams],
        }
    )


def _round(report: Report, schema: schemathesis.BaseSchema) -> None:
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(report, event)
        elif isinstance(event, events.FatalError):
            report.findings["schemathesis", "fatal error", str(event.exception)] = ""
        elif isinstance(event, events.NonFatalError):
            report.findings[event.label, "error", event.info.title] = str(event.value)


def _count(report: Report, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    report.cases[event.phase.value] += len(recorder.interactions)
    for case_id, interaction in recorder.interactions.items():
        report.statuses[interaction.response.status_code if interaction.response else None] += 1
        if case_id in recorder.cases:
            report.untested.discard(recorder.cases[case_id].value.operation.label)
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                label = recorder.cases[case_id].value.operation.label
                failure = check.failure_info.failure
                example = f"{failure.message}\n{check.failure_info.code_sample}"
                report.findings.setdefault((label, check.name, failure.title), example)


async def relay(directory: Path, *, cases: int, per_operation: int, seed: int) -> Report:
    """A daemon over a sandbox, with a webhook on loopback, asked with an admin key."""
    report = Report("relay", seed)
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=1000) as upstream,
        _daemon(directory, upstream, hook) as process,
        harness.caller(process.url) as session,
    ):
        client = harness.Client(process.url, session)
        busy = asyncio.create_task(_keep_busy(client))
        try:
            await asyncio.to_thread(
                fuzz,
                report,
                url=process.url,
                key=harness.ADMIN_KEY,
                cases=cases,
                per_operation=per_operation,
            )
        finally:
            busy.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await busy
        failed = re.findall(r".*request\.failed.*", process.log.read_text(errors="replace"))
        for line in failed[:5]:
            report.findings["relay", "its log", line[:300]] = ""
    return report


async def of_the_sandbox(*, cases: int, per_operation: int, seed: int, shape: str) -> Report:
    """The sandbox alone; ``shape`` is what its ``/events`` speaks."""
    report = Report(f"sandbox with {shape} events", seed)
    async with sandbox.running_sandbox(speed=1000, events=shape) as upstream:
        await asyncio.to_thread(
            fuzz,
            report,
            url=upstream.url,
            key=upstream.key,
            cases=cases,
            per_operation=per_operation,
        )
    return report


@contextlib.asynccontextmanager
async def _daemon(
    directory: Path, upstream: harness.Peer, hook: receivers.Receiver
) -> AsyncIterator[harness.Process]:
    destinations = {"pipeline": harness.webhook(hook)}
    server = {"port": 0, "drain_timeout": 5.0, "requests_per_second_per_key": 100_000}
    process = harness.Process(directory, harness.overrides(directory, upstream, destinations, server=server))
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def _keep_busy(client: harness.Client) -> None:
    """Something happens a few times a second, for those who listen."""
    while True:
        await client.submit()
        await asyncio.sleep(0.2)
