"""Taking the configuration up again while relay runs, one time after the other.

Owns the turns, and what is told of each: the log, systemd, the metrics. What a configuration is, where
it comes from and what it changes is its caller's.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from relay import metrics
from relay.domain import errors
from relay.engine import clock as clocks
from relay.engine import definitions, systemd

log = structlog.get_logger(__name__)
audit = structlog.get_logger("relay.audit")

T = TypeVar("T")


def taken_up(now: float) -> None:
    """Note that what is configured is in force; also at the start."""
    metrics.CONFIG_RELOAD_SUCCESS.set(1)
    metrics.CONFIG_RELOAD_TIMESTAMP_SECONDS.set(now)


class Reloading(Generic[T]):
    """Reads the configuration again and has it applied."""

    def __init__(
        self,
        *,
        reread: Callable[[], T],
        apply: Callable[[T], Awaitable[definitions.Changes]],
        clock: clocks.Clock,
    ) -> None:
        """``reread`` runs in a thread. Both raise ``errors.ConfigurationError`` for what cannot be used."""
        self._reread = reread
        self._apply = apply
        self._clock = clock
        # Read and applied in one turn: otherwise an older file that was slow to read could come last.
        self._turn = asyncio.Lock()

    async def once(self) -> None:
        """Take up what is there now. What cannot be used is logged and changes nothing."""
        async with self._turn:
            systemd.notify(systemd.reloading())
            done = False
            try:
                changes = await self._apply(await asyncio.to_thread(self._reread))
                done = True
            except (errors.ConfigurationError, errors.StoreError) as exc:
                said = "; ".join(str(exc).splitlines())
                log.error("configuration not reloaded, the former one stays", error=said)
            else:
                taken_up(self._clock.now())
                audit.info("configuration.reloaded", by="SIGHUP", **dataclasses.asdict(changes))
            finally:
                if not done:
                    metrics.CONFIG_RELOAD_SUCCESS.set(0)
                systemd.notify("READY=1")
