"""Five kills on each run of the tests; ``make chaos KILLS=30`` does more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import chaos


@pytest.mark.timeout(300)
async def test_nothing_is_lost_by_kill_9(tmp_path: Path) -> None:
    report = await chaos.run(kills=5, tasks=40, seed=20261123, directory=tmp_path)
    assert report.ok, str(report)
