"""One short round of every phase against each API. ``make fuzz`` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.sandbox import server
from tests.fuzz import running

SEED = 20_261_123

# Some thousand requests: on a busy machine they take longer than a test usually may hang.
pytestmark = pytest.mark.timeout(600)


def sound(report: running.Report) -> None:
    assert not report.findings, str(report)
    assert not report.untested, report.untested
    assert all(report.cases[phase] for phase in running.PHASES), str(report)


async def test_relay_answers_as_it_is_described(tmp_path: Path) -> None:
    sound(await running.relay(tmp_path, cases=0, per_operation=4, seed=SEED))


@pytest.mark.parametrize("shape", ["json", "sse"])
async def test_the_sandbox_answers_as_it_is_described(shape: str) -> None:
    sound(await running.of_the_sandbox(cases=0, per_operation=4, seed=SEED, shape=shape))


@pytest.mark.parametrize(
    ("status", "body", "check"),
    [
        (500, {"name": "x"}, "not_a_server_error"),
        (202, {"name": "x"}, "status_code_conformance"),
        (200, {"name": 7}, "response_schema_conformance"),
        (200, None, "content_type_conformance"),
    ],
)
async def test_what_is_wrong_is_found(status: int, body: Any, check: str) -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    answers = {"200": {"description": "It.", "content": {"application/json": {"schema": schema}}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "wrong", "version": "1"},
        "paths": {"/thing": {"get": {"responses": answers}}},
    }

    async def thing(_request: web.Request) -> web.Response:
        return (
            web.Response(status=status, text="x") if body is None else web.json_response(body, status=status)
        )

    async def openapi(_request: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.router.add_get("/thing", thing)
    app.router.add_get("/openapi.json", openapi)
    runner, url = await server.serve(app)
    report = running.Report("wrong", SEED)
    try:
        await asyncio.to_thread(running.fuzz, report, url=url, key="key", cases=0, per_operation=1)
    finally:
        await runner.cleanup()
    assert ("GET /thing", check) in {finding[:2] for finding in report.findings}, str(report)
