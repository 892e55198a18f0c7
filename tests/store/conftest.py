"""An open store for the conformance suite. A second engine adds its name and URL here, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.store import opening
from relay.store.sql import SqlStore


@pytest.fixture(params=["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of the engine under test."""
    return {"sqlite": f"sqlite:///{tmp_path}/relay.db"}[request.param]


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[SqlStore]:
    opened = await opening.open_store(store_url, exclusive=True, migrate=True)
    yield opened
    await opened.aclose()
