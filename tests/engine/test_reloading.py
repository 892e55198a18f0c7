"""The configuration taken up again: in the order of the signals, and told in the metrics."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable

import pytest

from relay import metrics
from relay.domain import errors
from relay.engine import clock, definitions, reloading

PATIENCE = 30.0


def shown(name: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name)


class Applied(list[str]):
    """What came into force, in order."""

    async def apply(self, text: str) -> definitions.Changes:
        self.append(text)
        return definitions.Changes()

    def by(self, reread: Callable[[], str]) -> reloading.Reloading[str]:
        return reloading.Reloading(reread=reread, apply=self.apply, clock=clock.SystemClock())


async def test_an_older_file_that_is_slow_to_read_does_not_come_last() -> None:
    """The first signal's file is held while it is read; whatever the second may do is done meanwhile."""
    # One thread for the file that is held, one for all else: what is asked of it first has ended first.
    asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
    held, released = threading.Event(), threading.Event()
    texts = iter(["older", "newer"])

    def reread() -> str:
        text = next(texts)
        if text == "older":
            held.set()
            assert released.wait(PATIENCE)
        return text

    applied = Applied()
    reloader = applied.by(reread)
    first = asyncio.create_task(reloader.once())
    assert await asyncio.to_thread(held.wait, PATIENCE)
    second = asyncio.create_task(reloader.once())
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    for _ in range(10):
        await asyncio.sleep(0)
    released.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(first, second)
    assert applied == ["older", "newer"]


@pytest.mark.parametrize("error", [errors.ConfigurationError("bad"), errors.StoreUnavailable("full")])
async def test_what_was_refused_is_told_until_something_is_taken_up(error: errors.RelayError) -> None:
    reloading.taken_up(1000.0)
    assert shown("relay_config_reload_success") == 1
    wrong: list[Exception] = [error]

    def reread() -> str:
        if wrong:
            raise wrong.pop()
        return "good"

    applied = Applied()
    reloader = applied.by(reread)
    await reloader.once()
    assert applied == []
    assert shown("relay_config_reload_success") == 0
    assert shown("relay_config_reload_timestamp_seconds") == 1000
    await reloader.once()
    assert applied == ["good"]
    assert shown("relay_config_reload_success") == 1
    assert (shown("relay_config_reload_timestamp_seconds") or 0) > 1000


async def test_what_nobody_foresaw_is_told_too_and_keeps_nobody_off() -> None:
    reloading.taken_up(1000.0)
    texts = iter(["good"])
    wrong = [ValueError("a fault of relay's")]

    def reread() -> str:
        if wrong:
            raise wrong.pop()
        return next(texts)

    applied = Applied()
    reloader = applied.by(reread)
    with pytest.raises(ValueError, match="a fault"):
        await reloader.once()
    assert shown("relay_config_reload_success") == 0
    await reloader.once()
    assert applied == ["good"]
