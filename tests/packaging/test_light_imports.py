"""What an import costs: the command line without the daemon's libraries, the daemon without Apprise."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("relay.cli", {"aiohttp", "apprise", "aiosqlite", "jsonschema_rs", "uvloop", "pebble"}),
        ("relay.daemon", {"apprise", "requests", "jsonschema_rs", "relay.web.docs_page"}),
        ("relay.healthcheck", {"aiohttp", "apprise", "pydantic", "rich", "structlog"}),
    ],
)
def test_import_stays_light(bare_env: dict[str, str], module: str, heavy: set[str]) -> None:
    script = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=bare_env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert heavy & set(json.loads(done.stdout)) == set()
