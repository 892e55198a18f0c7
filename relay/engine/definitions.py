"""What a destination is, and how one that was made by API is kept: its URL and secrets sealed.

Values and their encoding; ``destinations.py`` is what moves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay import sealing
from relay.domain import errors, model, reasons
from relay.senders import base
from relay.store import destinations as stored

Judge = Callable[[str], Awaitable[str | None]]
"""Why a URL could never be told, by what it spells out; ``None`` where nothing is known against it."""


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

    def changed(self, members: Mapping[str, Any]) -> Definition:
        """The same with these members instead: ``url``, ``secret``, ``signing_key``, ``headers`` and those of
        ``model.DestinationOptions``, where ``None`` stands for the default.

        Raises ``errors.RequestRefused`` for what a destination cannot be without.
        """
        values = {name: value for name, value in members.items() if name in _OWN}
        if values.get("url", self.url) is None:
            raise errors.RequestRefused("a destination needs a URL", pointer="/url")
        if "headers" in values:
            values["headers"] = dict(values["headers"] or {})
        if "secret" in values:
            secret = values.pop("secret")
            values["secrets"] = () if secret is None else (Secret(secret=secret),)
        options = {name: _option(name, value) for name, value in members.items() if name not in _OWN}
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **options), **values)

    def spec(self, name: str) -> base.DestinationSpec:
        """What its sender is made of."""
        return base.DestinationSpec(
            name=name,
            url=self.url,
            secrets=tuple(one.secret for one in self.secrets),
            ends=tuple(one.until for one in self.secrets),
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
class Record:
    """What the registry holds of one destination.

    ``definition`` is ``None`` for one of the configuration, which is never copied. ``problem`` says why
    nothing can be sent to one that cannot be used (any more). Instants are epoch seconds, ``None`` where
    nobody noted them.
    """

    name: str
    source: model.Source
    spec: base.DestinationSpec
    options: model.DestinationOptions
    opened: base.Opened
    definition: Definition | None = None
    owner: str | None = None
    problem: str | None = None
    created_at: float | None = None
    changed_at: float | None = None
    used_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A destination as it may be shown: no URL and no secret.

    ``headers`` are the names of headers of its own, ``signatures`` the schemes that it is signed with
    (``v1``, ``v1a``), ``public_key`` the ``whpk_…`` of the latter. ``timeout`` is the one in force,
    ``None`` where none is known. ``old_until`` is when the last of its former secrets stops signing,
    perhaps a while ago. ``problem`` says why nothing can be sent to it, ``None`` where it can.
    """

    name: str
    source: model.Source
    owner: str | None
    sender: base.Sender
    service: str
    options: model.DestinationOptions
    headers: tuple[str, ...]
    signatures: tuple[str, ...]
    public_key: str | None
    timeout: float | None
    old_until: float | None
    health: model.Health
    problem: str | None
    created_at: float | None
    changed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A destination that was made; ``secret`` is the one that relay made for it, to be shown once."""

    known: Known
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The secret that signs from now on, and until when the former ones sign too, if they do."""

    secret: str = field(repr=False)
    old_until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a reload changed: names of destinations, and whether routes and operator are others."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    routes: bool = False
    operator: bool = False


_NOT_OPENED: Final = "it was not opened yet"
_OWN: Final = frozenset({"url", "secret", "signing_key", "headers"})
_DEFAULTS: Final = model.DestinationOptions()


def _option(name: str, value: Any) -> Any:
    """A member of ``model.DestinationOptions`` from JSON."""
    if value is None:
        return getattr(_DEFAULTS, name)
    if name == "statuses":
        return frozenset(map(model.Change, value))
    return tuple(value) if name == "schedule" else value


def changes(
    before: Mapping[str, Record], after: Mapping[str, Configured], *, routes: bool, operator: bool
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


class Unusable:
    """The sender of a destination that cannot be used: the dispatcher never gets it."""

    format = model.Format.WEBHOOK
    address = ""
    time_limit = 0.0
    concurrency = 0
    capacity = base.Capacity(name="unusable", seats=0, seats_hanging=0)

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self._problem = problem

    async def send(self, outgoing: base.Outgoing) -> base.Accepted:
        """Always refused, and by no fault of the peer."""
        raise errors.SendError(self._problem, reason=reasons.Reason.UNUSABLE_URL, charged=False)


def unopened(name: str) -> base.Opened:
    """In place of a sender, for one that cannot be used (yet)."""
    return base.Opened(sender=Unusable(name, _NOT_OPENED), service="unusable")


def shown(record: Record, health: model.Health) -> Known:
    """``record`` as it may be shown."""
    signatures = ("v1",) * bool(record.spec.secrets) + ("v1a",) * (record.spec.signing_key is not None)
    return Known(
        name=record.name,
        source=record.source,
        owner=record.owner,
        sender=record.opened.sender,
        service=record.opened.service,
        options=record.options,
        headers=tuple(record.spec.headers),
        signatures=signatures,
        public_key=record.opened.public_key,
        timeout=record.opened.timeout or record.options.timeout,
        old_until=max((end for end in record.spec.ends if end is not None), default=None),
        health=health,
        problem=record.problem,
        created_at=record.created_at,
        changed_at=record.changed_at,
    )


def routed(known: Record) -> model.Destination:
    """What routing needs of it."""
    return model.Destination(
        name=known.name,
        format=known.opened.sender.format,
        statuses=known.options.statuses,
        prompt=known.options.prompt,
        source=known.source,
        owner=known.owner,
    )


def of_configuration(configured: Configured, opened: base.Opened) -> Record:
    """One of the configuration, opened."""
    return Record(
        name=configured.spec.name,
        source=model.Source.CONFIGURATION,
        spec=configured.spec,
        options=configured.options,
        opened=opened,
    )


def refuse_twins(configured: Iterable[str], made: Iterable[str]) -> None:
    """Raise ``errors.ConfigurationError`` for a name that both have."""
    if twins := sorted(set(configured) & set(made)):
        raise errors.ConfigurationError(
            f"destinations.{twins[0]}: a destination of that name was made by API; choose another name, or"
            f" run `relay destinations rm {twins[0]}` first, while relay runs without this one"
        )


def to_store(known: Record, sealer: sealing.Sealer) -> stored.StoredDestination:
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


def from_store(row: stored.StoredDestination, sealer: sealing.Sealer) -> Record:
    """As it was stored, not usable until it is opened. Raises ``errors.SecretUnreadable``."""
    definition = _definition(sealer.open(row.sealed), row.options)
    return Record(
        name=row.name,
        source=row.source,
        owner=row.owner,
        spec=definition.spec(row.name),
        options=row.options,
        opened=unopened(row.name),
        problem=_NOT_OPENED,
        definition=definition,
        created_at=row.created_at,
        changed_at=row.changed_at,
        used_at=row.used_at,
    )


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
