"""All pollers behind one name, for those who only know a task's upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.domain import model
from relay.engine import poller


class Pollers:
    """The pollers of all upstreams, by the task's upstream."""

    def __init__(self, pollers: Mapping[str, poller.Poller]) -> None:
        self._pollers = pollers
        self.names: Final = frozenset(pollers)
        """The configured upstreams."""

    def watch(self, watch: model.Watch, *, delay: float | None = None) -> None:
        """Hand the task to the poller of its upstream; one that is not configured any more waits."""
        one = self._pollers.get(watch.task.upstream)
        if one is not None:
            one.watch(watch, delay=delay)

    def polled(self, upstream: str, task: str) -> poller.Polled | None:
        """See ``Poller.polled``."""
        one = self._pollers.get(upstream)
        return one.polled(task) if one is not None else None

    def paused(self, upstream: str) -> str | None:
        """Why nothing is asked of ``upstream``; ``None`` while it is."""
        one = self._pollers.get(upstream)
        return one.paused if one is not None else None

    def drain(self) -> None:
        """Start no more looks anywhere."""
        for one in self._pollers.values():
            one.drain()
