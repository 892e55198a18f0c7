"""Who is told about a change: registrations, routes and the destinations' own filters."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.domain import model


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """One destination that must hear of one change, with the metadata it gets."""

    destination: str
    change: model.Change
    metadata: dict[str, object] | None


@dataclass(frozen=True, kw_only=True)  # without slots: what is found out once is kept in it
class Table:
    """What the operator configured: every destination by name, and the routes in order."""

    destinations: Mapping[str, model.Destination]
    routes: Sequence[model.Route] = ()

    @functools.cached_property
    def hears_progress(self) -> bool:
        """Whether some destination or route may hear that a task is queued or processing."""
        heard = (one.statuses for one in self.destinations.values() if one.statuses is not None)
        globs = (glob for route in self.routes for glob in route.status or ())
        return any(_PROGRESS & statuses for statuses in heard) or any(
            fnmatch.fnmatchcase(change, glob) for glob in globs for change in _PROGRESS
        )


_PROGRESS: Final = frozenset({model.Change.QUEUED, model.Change.PROCESSING})


def owed(
    task: model.Task,
    changes: Sequence[model.Change],
    registrations: Sequence[model.Registration],
    table: Table,
) -> list[Owed]:
    """Whom to tell of ``changes``; each (destination, change) once, the oldest registration first.

    A registration that names destinations decides alone, and its ``statuses``, if any, override
    those of the destinations. Otherwise the first route that matches the change decides, and
    naming statuses in its ``when`` overrides in the same way. A named destination that is not
    configured is still owed (the delivery is held), with the default filter.
    """
    found: dict[tuple[str, model.Change], Owed] = {}
    for change in changes:
        for registration in sorted(registrations, key=lambda r: (r.created_at, r.key_id)):
            for name in _named(task, change, registration, table):
                found.setdefault(
                    (name, change),
                    Owed(destination=name, change=change, metadata=registration.metadata),
                )
    return list(found.values())


def supersedes(task: model.Task, registrations: Sequence[model.Registration], table: Table) -> bool:
    """Whether something of what came before ``task``'s end may be owed still, and is old news now.

    Cheap: most tasks are told their end only, and the store need not look for anything else.
    """
    if not task.verdict.final:
        return False
    return (
        task.stalled_at is not None
        or table.hears_progress
        or any(one.statuses is not None and _PROGRESS & one.statuses for one in registrations)
    )


def _named(
    task: model.Task, change: model.Change, registration: model.Registration, table: Table
) -> list[str]:
    if registration.notify:
        explicit = registration.statuses is not None
        names: Sequence[str] = registration.notify
    else:
        route = next((r for r in table.routes if matches(r, task, change)), None)
        if route is None:
            return []
        explicit = registration.statuses is not None or route.status is not None
        names = route.notify
    if registration.statuses is not None and change not in registration.statuses:
        return []
    return [name for name in names if explicit or change in _heard(table.destinations.get(name))]


def matches(route: model.Route, task: model.Task, change: model.Change) -> bool:
    """Whether ``route`` applies. Globs are matched against the whole word, case included."""
    if route.status is not None and not any(fnmatch.fnmatchcase(change, g) for g in route.status):
        return False
    return route.model is None or fnmatch.fnmatchcase(task.model or "", route.model)


def _heard(destination: model.Destination | None) -> frozenset[model.Change]:
    if destination is None or destination.statuses is None:
        return model.HEARD_BY_DEFAULT
    return destination.statuses
