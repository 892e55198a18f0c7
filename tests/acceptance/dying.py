"""A daemon that ends itself, as ``kill -9`` would, when it comes by a named point.

    python -m tests.acceptance.dying POINT NTH CONFIG

Composed of the product's own parts with a store and senders in between that end the process: there is
no hook in the product. ``NTH`` is how often the point is passed before it kills, from 1.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from relay import daemon, logs, settings
from relay.senders import base
from relay.store import base as store_base

KILLED = 77
"""Exit status of a process that came by its point."""

MIDWAY = 0.05
"""Seconds after the start of a send at which it is cut off; the receiver does not answer by then."""

POINTS = (
    "after_poll",
    "after_commit",
    "after_claim",
    "while_sending",
    "after_answer",
    "after_record",
    "before_disabling",
    "after_disabling",
    "before_redelivery_batch",
    "after_redelivery_batch",
)


class Reaper:
    """Ends the process when its point was passed often enough."""

    def __init__(self, point: str, nth: int) -> None:
        assert point in POINTS
        self._point = point
        self._left = nth

    def wants(self, point: str) -> bool:
        """Whether this passing is the one."""
        if point != self._point:
            return False
        self._left -= 1
        return self._left == 0

    def at(self, point: str) -> None:
        """Pass a point."""
        if self.wants(point):
            die()


def die() -> None:
    """At once: nothing is flushed, closed or rolled back."""
    os._exit(KILLED)


class DyingStore:
    """The store, with points before and after what it commits."""

    def __init__(self, inner: store_base.Store, reaper: Reaper) -> None:
        self._inner = inner
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def write(self, writes: Sequence[store_base.Write]) -> Any:
        ends = [one for one in writes if isinstance(one, store_base.TaskWrite) and one.deliveries]
        outcomes = [one for one in writes if isinstance(one, store_base.AttemptWrite)]
        disabling = [one for one in outcomes if one.hold is not None]
        for _ in ends:
            self._reaper.at("after_poll")
        for _ in disabling:
            self._reaper.at("before_disabling")
        answers = await self._inner.write(writes)
        for _ in ends:
            self._reaper.at("after_commit")
        for _ in outcomes:
            self._reaper.at("after_record")
        for _ in disabling:
            self._reaper.at("after_disabling")
        return answers

    async def claim(self, *args: Any, **options: Any) -> Any:
        claims = await self._inner.claim(*args, **options)
        for _ in claims:
            self._reaper.at("after_claim")
        return claims

    async def advance_redelivery(self, *args: Any, **options: Any) -> Any:
        self._reaper.at("before_redelivery_batch")
        advanced = await self._inner.advance_redelivery(*args, **options)
        self._reaper.at("after_redelivery_batch")
        return advanced


class DyingSender:
    """A sender, with points within and after a send."""

    def __init__(self, inner: base.Sender, reaper: Reaper) -> None:
        self._inner = inner
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, outgoing: base.Outgoing) -> base.Accepted:
        if self._reaper.wants("while_sending"):
            asyncio.get_running_loop().call_later(MIDWAY, die)
        accepted = await self._inner.send(outgoing)
        self._reaper.at("after_answer")
        return accepted


class DyingOpener:
    """Opens dying senders."""

    def __init__(self, inner: base.Opener, reaper: Reaper) -> None:
        self._inner = inner
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self, *specs: base.DestinationSpec) -> list[base.Opened]:
        opened = await self._inner.open(*specs)
        return [
            base.Opened(
                sender=DyingSender(one.sender, self._reaper),  # type: ignore[arg-type]
                service=one.service,
                public_key=one.public_key,
            )
            for one in opened
        ]


async def serve(point: str, nth: int, config: Path) -> None:
    """Run until the point."""
    reaper = Reaper(point, nth)
    ports = daemon.Ports(
        store=lambda inner: DyingStore(inner, reaper),  # type: ignore[arg-type,return-value]
        opener=lambda inner: DyingOpener(inner, reaper),
    )
    async with daemon.running(settings.load(config), ports=ports) as running:
        print(f"relay listening on {running.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logs.configure(level="info", style="json")
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
