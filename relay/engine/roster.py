"""What is known of every destination at this moment, and nothing that must survive.

Keeps the outbox and the dispatcher of one mind: what is put here is routed to and sent to from that
moment on. Only ``destinations.py`` changes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from relay.domain import model, routing
from relay.engine import definitions, dispatcher, outbox


class Roster:
    """Destinations by name; ``routes`` and ``operator`` are those of the configuration."""

    def __init__(self, *, dispatcher: dispatcher.Dispatcher, box: outbox.Outbox) -> None:
        self._dispatcher = dispatcher
        self._outbox = box
        self._known: dict[str, definitions.Record] = {}
        self._routed: dict[str, model.Destination] = {}
        self._resting: dict[str, model.Health] = {}
        self.routes: tuple[model.Route, ...] = ()
        self.operator: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> definitions.Record:
        return self._known[name]

    def get(self, name: str) -> definitions.Record | None:
        """One of them, ``None`` for an unknown name."""
        return self._known.get(name)

    def all(self) -> list[definitions.Record]:
        """All of them, by name."""
        return [self._known[name] for name in sorted(self._known)]

    def of(self, source: model.Source) -> dict[str, definitions.Record]:
        """Those that are defined there."""
        return {name: known for name, known in self._known.items() if known.source is source}

    def count(self, source: model.Source) -> int:
        """How many are defined there."""
        return sum(known.source is source for known in self._known.values())

    @property
    def usable(self) -> Collection[str]:
        """Names of those that something can be sent to."""
        return self._routed.keys()

    def shown(self, name: str) -> definitions.Known:
        """One of them as it may be shown. ``KeyError`` for an unknown name."""
        return definitions.shown(self._known[name], self.health(name))

    def health(self, name: str) -> model.Health:
        """What is known of it, which is the dispatcher's where anything can be sent to it."""
        try:
            return self._dispatcher.health(name)
        except KeyError:
            return self._resting.get(name, model.Health(destination=name))

    def set_health(self, health: model.Health) -> model.Health:
        """Have it held or not from this moment on; ``health`` itself."""
        if health.destination in self._routed:
            self._dispatcher.set_health(health)
        else:
            self._resting[health.destination] = health
        return health

    def put(self, known: definitions.Record, kept: Mapping[str, model.Health]) -> None:
        """Know it, or another version of it; ``kept`` are the stored healths of those not known so far."""
        name = known.name
        health = self.health(name)
        if not health.version:
            health = kept.get(name, health)
        self._known[name] = known
        if known.problem is not None:
            self._resting[name] = health
            return
        self._resting.pop(name, None)
        self._routed[name] = definitions.routed(known)
        self._route()
        self._dispatcher.configure(known.opened.sender, known.options, health, source=known.source)

    def forget(self, name: str) -> None:
        """What is owed to it from now on is held."""
        del self._known[name]
        self._routed.pop(name, None)
        self._resting.pop(name, None)
        self._route()
        self._dispatcher.remove(name)

    def follow(self, routes: Sequence[model.Route], operator: Sequence[str]) -> None:
        """Routes and operator from now on."""
        self.routes, self.operator = tuple(routes), tuple(operator)
        self._route()

    def _route(self) -> None:
        """Have the outbox find out anew what a table keeps of its destinations."""
        table = routing.Table(destinations=self._routed, routes=self.routes)
        self._outbox.use(table, operator=self.operator)
