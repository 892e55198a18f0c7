"""What a destination is, and how one that was made by API is kept: its URL and secrets sealed.

Values and their encoding; ``destinations.py`` is what moves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay import sealing
from relay.domain import model
from relay.senders import base
from relay.store import destinations as stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A ``whsec_…`` that signs, until ``until`` (epoch seconds) or for good."""

    secret: str = field(repr=False)
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A destination with its secrets, newest first. ``signing_key`` is a ``whsk_…`` or ``None``."""

    url: str = field(repr=False)
    secrets: tuple[Secret, ...] = ()
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: model.DestinationOptions = field(default_factory=model.DestinationOptions)

    def spec(self, name: str) -> base.DestinationSpec:
        """What its sender is made of."""
        return base.DestinationSpec(
            name=name,
            url=self.url,
            secrets=tuple(one.secret for one in self.secrets),
            signing_key=self.signing_key,
            headers=self.headers,
            timeout=self.options.timeout,
            concurrency=self.options.concurrency,
        )

    def rotated(self, secret: str, *, until: float) -> Definition:
        """The same, signing with ``secret`` first; the others go on until then at the latest."""
        former = (
            Secret(secret=one.secret, until=until if one.until is None else min(until, one.until))
            for one in self.secrets
            if one.secret != secret
        )
        return dataclasses.replace(self, secrets=(Secret(secret=secret), *former))

    def without_expired(self, now: float) -> Definition:
        """The same, but for secrets whose time is over; itself where there are none."""
        left = tuple(one for one in self.secrets if one.until is None or one.until > now)
        return self if len(left) == len(self.secrets) else dataclasses.replace(self, secrets=left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A destination of the configuration."""

    spec: base.DestinationSpec
    options: model.DestinationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What to change of a destination; ``None`` leaves it.

    ``headers`` are set one by one, a value of ``None`` takes one away. ``options`` holds members of
    ``model.DestinationOptions`` by name.
    """

    url: str | None = field(default=None, repr=False)
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str | None] | None = field(default=None, repr=False)
    options: Mapping[str, Any] | None = None

    def apply(self, before: Definition) -> Definition:
        """``before``, changed."""
        options = dataclasses.replace(before.options, **self.options) if self.options else before.options
        return dataclasses.replace(
            before,
            url=before.url if self.url is None else self.url,
            signing_key=before.signing_key if self.signing_key is None else self.signing_key,
            headers=_with(before.headers, self.headers or {}),
            options=options,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the registry holds of one destination.

    ``definition`` is ``None`` for one of the configuration, which is never copied. ``opened`` is ``None``
    for one that cannot be used (any more), for the reason ``problem``. Instants are epoch seconds,
    ``None`` where nobody noted them.
    """

    name: str
    source: model.Source
    spec: base.DestinationSpec
    options: model.DestinationOptions
    opened: base.Opened | None
    definition: Definition | None = None
    owner: str | None = None
    problem: str | None = None
    created_at: float | None = None
    changed_at: float | None = None
    used_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A destination as it may be shown: no URL and no secret.

    ``address`` is scheme and host, ``headers`` the names of headers of its own. ``public_key`` is the
    ``whpk_…`` of one that is signed with ``v1a``. ``secrets_until`` are the ends of those secrets that
    sign only for a while. ``problem`` says why nothing can be sent to it, ``None`` where it can.
    """

    name: str
    source: model.Source
    owner: str | None
    format: model.Format
    service: str
    address: str
    time_limit: float
    options: model.DestinationOptions
    headers: tuple[str, ...]
    public_key: str | None
    secrets_until: tuple[float, ...]
    health: model.Health
    problem: str | None
    created_at: float | None
    changed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A destination that was made; ``secret`` is the one that relay made for it, to be shown once."""

    entry: Entry
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a reload changed: names of destinations, and whether routes and operator are others."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    routes: bool = False
    operator: bool = False


def changes(
    before: Mapping[str, Known], after: Mapping[str, Configured], *, routes: bool, operator: bool
) -> Changes:
    """What another configuration changes."""
    both = before.keys() & after.keys()
    changed = {
        name
        for name in both
        if (before[name].spec, before[name].options) != (after[name].spec, after[name].options)
    }
    return Changes(
        added=tuple(sorted(after.keys() - both)),
        changed=tuple(sorted(changed)),
        removed=tuple(sorted(before.keys() - both)),
        routes=routes,
        operator=operator,
    )


def entry(known: Known, health: model.Health) -> Entry:
    """``known`` as it may be shown."""
    opened = known.opened
    secrets = () if known.definition is None else known.definition.secrets
    return Entry(
        name=known.name,
        source=known.source,
        owner=known.owner,
        format=model.Format.WEBHOOK if opened is None else opened.sender.format,
        service="unusable" if opened is None else opened.service,
        address="" if opened is None else opened.sender.address,
        time_limit=0.0 if opened is None else opened.sender.time_limit,
        options=known.options,
        headers=tuple(known.spec.headers),
        public_key=None if opened is None else opened.public_key,
        secrets_until=tuple(one.until for one in secrets if one.until is not None),
        health=health,
        problem=known.problem,
        created_at=known.created_at,
        changed_at=known.changed_at,
    )


def routed(known: Known, opened: base.Opened) -> model.Destination:
    """What routing needs of it."""
    return model.Destination(
        name=known.name,
        format=opened.sender.format,
        statuses=known.options.statuses,
        prompt=known.options.prompt,
        source=known.source,
        owner=known.owner,
    )


def to_store(known: Known, sealer: sealing.Sealer) -> stored.StoredDestination:
    """As the store keeps it. Raises ``errors.StoreUnavailable`` when a key must be made and cannot be."""
    assert known.definition is not None, "what the configuration defines is never stored"
    return stored.StoredDestination(
        name=known.name,
        source=known.source,
        owner=known.owner,
        options=known.options,
        sealed=sealer.seal(_document(known.definition)),
        created_at=known.created_at or 0.0,
        changed_at=known.changed_at or 0.0,
        used_at=known.used_at,
    )


def from_store(row: stored.StoredDestination, sealer: sealing.Sealer) -> Known:
    """As it was stored, not opened yet. Raises ``errors.SecretUnreadable``."""
    definition = _definition(sealer.open(row.sealed), row.options)
    return Known(
        name=row.name,
        source=row.source,
        owner=row.owner,
        spec=definition.spec(row.name),
        options=row.options,
        opened=None,
        definition=definition,
        created_at=row.created_at,
        changed_at=row.changed_at,
        used_at=row.used_at,
    )


def _with(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """``before`` with ``changes``; names of headers are the same in any case."""
    changed = {name.lower() for name in changes}
    kept = {name: value for name, value in before.items() if name.lower() not in changed}
    return kept | {name: value for name, value in changes.items() if value is not None}


def _document(definition: Definition) -> dict[str, object]:
    return {
        "url": definition.url,
        "secrets": [{"secret": one.secret, "until": one.until} for one in definition.secrets],
        "signing_key": definition.signing_key,
        "headers": dict(definition.headers),
    }


def _definition(document: Any, options: model.DestinationOptions) -> Definition:
    secrets: Sequence[Mapping[str, Any]] = document["secrets"]
    return Definition(
        url=document["url"],
        secrets=tuple(Secret(secret=one["secret"], until=one["until"]) for one in secrets),
        signing_key=document["signing_key"],
        headers=document["headers"],
        options=options,
    )
