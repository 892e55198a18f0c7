"""Every destination there is: of the configuration, made by API, named by a URL. They come and go here.

Owns their definitions and senders, and tells the outbox and the dispatcher. What is owed to one that
goes is held, and released when it is back. Those of the configuration are never stored, and changed by
the configuration alone. Health is the dispatcher's; what people want of it is ``wishes.py``'s.

Changes take turns. Each is stored first and known second, but for holding: who pauses a destination
has it closed at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from relay import sealing
from relay.domain import errors, ids, model
from relay.engine import clock as clocks
from relay.engine import definitions, dispatcher, outbox, roster, vault, wishes
from relay.senders import base
from relay.store import base as store_base
from relay.store import destinations as stored

log = structlog.get_logger(__name__)

API_MAX: Final = 1_000
"""Destinations made by API: people make them, and every list of them is read whole."""

INLINE_MAX: Final = 10_000
"""Destinations that URLs made, of all callers: each takes 3 kB of memory, and 0.3 ms at the start."""

SECRETS_MAX: Final = 5
"""Secrets that sign at once: receivers look at few signatures, and each costs every send."""

OVERLAP_MAX: Final = 90 * 86400.0
"""Longest time for which a secret that was rotated goes on signing, seconds."""

INLINE_OVERLAP: Final = 86400.0
"""Seconds for which an inline destination's former secret goes on signing beside a new one."""

SECRET_BYTES: Final = 32

PURGE_EVERY: Final = 3600.0
"""Seconds between two looks for inline destinations that nobody named for long."""

PURGE_BATCH: Final = 500


class Destinations:
    """The registry. ``start`` comes first, before any loop runs."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        opener: base.Opener,
        judge: definitions.Judge,
        sealer: sealing.Sealer,
        dispatcher: dispatcher.Dispatcher,
        box: outbox.Outbox,
        clock: clocks.Clock,
        randomness: Callable[[int], bytes],
        resume_rate: float,
        inline_kept: float,
    ) -> None:
        """``resume_rate`` is in deliveries per second, ``inline_kept`` in seconds since the last use."""
        self._store = store
        self._opener = opener
        self._judge = judge
        self._vault = vault.Vault(store, sealer)
        self._dispatcher = dispatcher
        self._roster = roster.Roster(dispatcher=dispatcher, box=box)
        self._wishes = wishes.Wishes(
            store=store, known=self._roster, dispatcher=dispatcher, clock=clock, resume_rate=resume_rate
        )
        self._clock = clock
        self._randomness = randomness
        self._resume_rate = resume_rate
        self._inline_kept = inline_kept
        self._lock = asyncio.Lock()
        self._unsettled = False
        self._used: set[str] = set()
        self._purged_at = float("-inf")

    # -- reading --------------------------------------------------------------------------------

    def get(self, name: str) -> definitions.Known:
        """One destination. ``KeyError`` for an unknown name."""
        return self._roster.shown(name)

    def all(self) -> list[definitions.Known]:
        """Every destination, by name."""
        return [self._roster.shown(known.name) for known in self._roster.all()]

    def public_key(self, name: str) -> str | None:
        """The ``whpk_…`` that verifies its ``v1a`` signatures; ``None`` where it has none. ``KeyError``."""
        return self.get(name).public_key

    # -- the configuration ----------------------------------------------------------------------

    async def start(
        self,
        configured: Mapping[str, definitions.Configured],
        opened: Iterable[base.Opened],
        *,
        routes: Sequence[model.Route],
        operator: Sequence[str],
    ) -> None:
        """Take up what is configured (``opened`` already) and what is stored.

        A stored one that cannot be used any more stops nothing: it is logged, and what it is owed is
        held. Raises ``errors.SecretUnreadable`` where no key opens what is stored,
        ``errors.ConfigurationError`` for a name that is used twice, ``errors.StoreError``.
        """
        kept = {health.destination: health for health in await self._store.healths()}
        made = await self._open_stored(await self._vault.read())
        definitions.refuse_twins(configured, (known.name for known in made))
        for one in opened:
            self._roster.put(definitions.of_configuration(configured[one.sender.name], one), kept)
        for known in made:
            self._roster.put(known, kept)
        self._roster.follow(routes, operator)

    async def reload(
        self,
        configured: Mapping[str, definitions.Configured],
        *,
        routes: Sequence[model.Route],
        operator: Sequence[str],
    ) -> definitions.Changes:
        """Take another configuration instead of the former one, whole or not at all.

        Raises ``errors.ConfigurationError`` and ``errors.StoreError``; nothing is changed then.
        """
        async with self._lock:
            before = self._roster.of(model.Source.CONFIGURATION)
            definitions.refuse_twins(
                configured, (one.name for one in self._roster.all() if one.name not in before)
            )
            other = [
                one for name, one in configured.items() if name not in before or before[name].spec != one.spec
            ]
            senders = await self._opener.open(*(one.spec for one in other))
            kept = {health.destination: health for health in await self._store.healths()}
            opened = {one.sender.name: one for one in senders}
            changes = definitions.changes(
                before,
                configured,
                routes=tuple(routes) != self._roster.routes,
                operator=tuple(operator) != self._roster.operator,
            )
            for name in changes.removed:
                self._roster.forget(name)
            for name in (*changes.added, *changes.changed):
                one = opened.get(name) or before[name].opened
                self._roster.put(definitions.of_configuration(configured[name], one), kept)
            self._roster.follow(routes, operator)
            for name in changes.changed:
                if before[name].spec.url != configured[name].spec.url:
                    await self._wishes.forget_failures(name)
            await self._settle_if_possible()
            if changes.removed and not configured:
                # Allowed, and more often an empty file than a wish.
                log.warning("no destination is configured any more", removed=list(changes.removed))
            return changes

    # -- made, changed and deleted by API -------------------------------------------------------

    async def create(
        self,
        name: str,
        members: Mapping[str, Any],
        *,
        source: model.Source = model.Source.API,
        owner: str | None = None,
    ) -> definitions.Created:
        """Make a destination of ``members`` (see ``definitions.Definition.changed``). What is held for one
        of its name is released.

        A webhook that nothing signs gets a secret, or an inline one a signing key. Raises
        ``errors.RequestRefused`` (``/name``, ``/url``, ``/secret``, ``/signing_key``, ``/headers``),
        ``errors.DestinationExists``, ``errors.StoreError``.
        """
        definition = definitions.Definition(url="").changed(members)
        await self._refuse_unreachable(definition.url)
        async with self._lock:
            self._check_new(name, source)
            asymmetric = source is model.Source.INLINE
            definition, opened, made = await self._open_signed(name, definition, asymmetric=asymmetric)
            now = self._clock.now()
            known = definitions.Record(
                name=name,
                source=source,
                owner=owner,
                spec=definition.spec(name),
                options=definition.options,
                opened=opened,
                definition=definition,
                created_at=now,
                changed_at=now,
                used_at=now,
            )
            await self._vault.save(known)
            self._roster.put(known, {})
            await self._release(name)
            return definitions.Created(known=self.get(name), secret=made)

    async def change(self, name: str, members: Mapping[str, Any]) -> definitions.Known:
        """Give a destination other ``members``, as ``create`` takes them. What is in flight ends as it began.

        Raises ``KeyError``, ``errors.DestinationReadOnly``, ``errors.RequestRefused`` and
        ``errors.StoreError``; nothing is changed then.
        """
        if members.get("url") is not None:
            await self._refuse_unreachable(members["url"])
        async with self._lock:
            known = self._changeable(name)
            if known.source is model.Source.INLINE:
                raise errors.DestinationReadOnly(f"{name} is what its URL was named with; name another one")
            assert known.definition is not None
            try:
                await self._redefine(known, known.definition.changed(members))
            except errors.RequestRefused as refused:
                if refused.pointer != "/secret":
                    raise
                # The secret that it has: a change names none that could be left out.
                raise errors.RequestRefused(
                    "a webhook with a secret does not become chat or mail: delete it and make it anew",
                    pointer="/url",
                ) from None
            return self.get(name)

    async def delete(self, name: str) -> None:
        """Delete a destination. What it is owed is held as ``destination_missing``.

        Raises ``KeyError``, ``errors.DestinationReadOnly`` and ``errors.StoreError``; it stays then.
        """
        async with self._lock:
            known, health = self._changeable(name), self._roster.health(name)
            self._roster.forget(name)
            try:
                await self._store.delete_destination(name)
            except errors.StoreError:
                self._roster.put(known, {name: health})
                raise

    async def rotate_secret(
        self, name: str, *, overlap: float, secret: str | None = None
    ) -> definitions.Rotated:
        """Sign with a new secret, and for ``overlap`` seconds with the former ones too.

        ``secret`` of ``None`` has one made. Raises as ``change`` does (``/secret``, ``/overlap``).
        """
        if not 0.0 <= overlap <= OVERLAP_MAX:  # NaN compares false
            raise errors.RequestRefused(f"overlap is 0 to {OVERLAP_MAX:.0f} seconds", pointer="/overlap")
        async with self._lock:
            known = self._changeable(name)
            new = secret or self._opener.make_secret(self._randomness(SECRET_BYTES))
            rotated = self._rotated(known, new, overlap=overlap)
            await self._redefine(known, rotated)
            ends = [one.until for one in rotated.secrets if one.until is not None]
            return definitions.Rotated(secret=new, old_until=max(ends, default=None))

    # -- paused and resumed, those of the configuration too -------------------------------------

    async def pause(self, name: str) -> definitions.Known:
        """Hold everything for it; what is in flight ends. ``KeyError``, ``errors.StoreError``."""
        async with self._lock:
            await self._wishes.pause(name)
            return self.get(name)

    async def resume(self, name: str, which: stored.Which) -> tuple[definitions.Known, stored.Resumed]:
        """Tell it again, paused or disabled; ``which`` says what becomes of what was held.

        Raises ``KeyError`` and ``errors.StoreError``.
        """
        async with self._lock:
            resumed = await self._wishes.resume(name, which)
            return self.get(name), resumed

    # -- named by a URL -------------------------------------------------------------------------

    async def inline(self, owner: str, url: str, secret: str | None = None) -> str:
        """The name of the destination that ``owner`` (a key's id) has at ``url``; it is made if need be.

        A webhook without ``secret`` is signed with a key of its own (``v1a``). Another secret than before
        is rotated in. Raises ``errors.RequestRefused`` (``/url``, ``/secret``) and ``errors.StoreError``.
        """
        name = ids.derive(ids.INLINE_PREFIX.rstrip("_"), owner, url)
        known = self._roster.get(name)
        if known is None:
            members = {"url": url, "secret": secret}
            try:
                await self.create(name, members, source=model.Source.INLINE, owner=owner)
            except errors.DestinationExists:  # somebody was first
                return await self.inline(owner, url, secret)
        else:
            self._used.add(name)
            if secret is not None and secret not in known.spec.secrets:
                await self.rotate_secret(name, overlap=INLINE_OVERLAP, secret=secret)
        return name

    # -- now and then ---------------------------------------------------------------------------

    async def care(self) -> None:
        """What is to be done now and then: secrets whose time is over, strays, inline ones long unused."""
        async with self._lock:
            await self._expire_secrets()
            if self._unsettled or (await self._store.due()).keys() - set(self._roster.usable):
                await self._settle()
            used, self._used = self._used, set()
            try:
                await self._store.touch_destinations(used, now=self._clock.now())
            except errors.StoreError:
                self._used |= used
                raise
            if self._clock.monotonic() - self._purged_at >= PURGE_EVERY:
                await self._purge_inline()
                self._purged_at = self._clock.monotonic()

    async def _expire_secrets(self) -> None:
        now = self._clock.now()
        for known in self._roster.all():
            if known.definition is None or known.problem is not None:
                continue
            left = known.definition.without_expired(now)
            if left is known.definition:
                continue
            try:
                await self._redefine(known, left)
            except (errors.ConfigurationError, errors.RequestRefused) as exc:
                log.error("former secret goes on signing", destination=known.name, error=str(exc))
            else:
                log.info("former secret expired", destination=known.name)

    async def _purge_inline(self) -> None:
        before = self._clock.now() - self._inline_kept
        for name in await self._store.purge_inline(before, limit=PURGE_BATCH):
            if name in self._used:  # named while the store was asked
                await self._vault.save(self._roster[name])
            else:
                self._roster.forget(name)

    async def _settle(self) -> tuple[int, int]:
        """Hold what is owed to unknown destinations, release what is owed to those that are back."""
        held, released = await self._store.hold_unconfigured(
            self._roster.usable, now=self._clock.now(), rate=self._resume_rate
        )
        self._unsettled = False
        if released:
            for name, due in (await self._store.due()).items():
                self._dispatcher.owed(name, due)
        return held, released

    async def settle(self) -> tuple[int, int]:
        """The same at the start, when nothing runs yet; how many were (held, released)."""
        async with self._lock:
            return await self._settle()

    async def _settle_if_possible(self) -> None:
        """The change itself is made; what it means for the outbox can wait for ``care``."""
        self._unsettled = True
        try:
            await self._settle()
        except errors.StoreError as exc:
            log.warning("what is owed is looked at later", error=str(exc))

    async def _release(self, name: str) -> None:
        """The same for one that is new, or can be used again: it may have been owed something before."""
        now = self._clock.now()
        try:
            if await self._store.release_missing(name, now=now, rate=self._resume_rate):
                self._dispatcher.owed(name, now)
        except errors.StoreError as exc:
            self._unsettled = True
            log.warning("what is owed is looked at later", destination=name, error=str(exc))

    # -- inside ---------------------------------------------------------------------------------

    def _changeable(self, name: str) -> definitions.Record:
        known = self._roster[name]
        if known.source is model.Source.CONFIGURATION:
            raise errors.DestinationReadOnly(
                f"{name} is defined in the configuration file: change it there and reload relay (SIGHUP)"
            )
        return known

    def _check_new(self, name: str, source: model.Source) -> None:
        if not ids.is_name(name):
            raise errors.RequestRefused("a name looks like [a-z][a-z0-9_]{0,62}", pointer="/name")
        if source is model.Source.API and name.startswith(ids.INLINE_PREFIX):
            raise errors.RequestRefused(
                f"names that begin with {ids.INLINE_PREFIX} are for URLs that callers name", pointer="/name"
            )
        if self._roster.get(name) is not None:
            raise errors.DestinationExists(f"there is a destination named {name}", pointer="/name")
        most = INLINE_MAX if source is model.Source.INLINE else API_MAX
        if self._roster.count(source) >= most:
            what = "URLs are known" if source is model.Source.INLINE else "destinations were made by API"
            raise errors.RequestRefused(f"{most} {what}, the most there may be; delete one first")

    async def _open_stored(self, made: Sequence[definitions.Record]) -> list[definitions.Record]:
        """All of ``made``, opened where they can be."""
        left = {known.name: known for known in made}
        unusable: list[definitions.Record] = []
        while True:
            try:
                senders = await self._opener.open(*(known.spec for known in left.values()))
                break
            except errors.DestinationRefused as exc:
                log.error("destination cannot be used", destination=exc.name, error=str(exc))
                unusable.append(dataclasses.replace(left.pop(exc.name), problem=exc.problem))
        opened = [dataclasses.replace(left[one.sender.name], opened=one, problem=None) for one in senders]
        return [*opened, *unusable]

    async def _open(self, name: str, definition: definitions.Definition) -> base.Opened:
        """Raises ``errors.RequestRefused``, and ``errors.SecretMissing`` for those who can make one."""
        try:
            [opened] = await self._opener.open(definition.spec(name))
        except errors.SecretMissing:
            raise
        except errors.DestinationRefused as exc:
            raise errors.RequestRefused(exc.problem, pointer=f"/{exc.part}") from None
        return opened

    async def _refuse_unreachable(self, url: str) -> None:
        """What is never dialled would only fail later. Takes seconds, so nobody's turn is taken meanwhile."""
        if (problem := await self._judge(url)) is not None:
            raise errors.RequestRefused(problem, pointer="/url")

    async def _open_signed(
        self, name: str, definition: definitions.Definition, *, asymmetric: bool
    ) -> tuple[definitions.Definition, base.Opened, str | None]:
        """Open it, with a secret or key made where nothing signs; also the secret that was made."""
        try:
            return definition, await self._open(name, definition), None
        except errors.SecretMissing:
            randomness = self._randomness(SECRET_BYTES)
        if asymmetric:
            key = self._opener.make_signing_key(randomness)
            definition = dataclasses.replace(definition, signing_key=key)
            return definition, await self._open(name, definition), None
        secret = self._opener.make_secret(randomness)
        definition = dataclasses.replace(definition, secrets=(definitions.Secret(secret=secret),))
        return definition, await self._open(name, definition), secret

    async def _redefine(self, known: definitions.Record, definition: definitions.Definition) -> None:
        """Store and know it as ``definition`` says; opened again where that makes another sender."""
        spec, opened = definition.spec(known.name), known.opened
        if known.problem is not None or spec != known.spec:
            try:
                opened = await self._open(known.name, definition)
            except errors.SecretMissing:
                was_signed = known.spec.secrets or known.spec.signing_key is not None
                other = ", or rotate a secret in first" if was_signed else ""  # only webhooks have secrets
                raise errors.RequestRefused(
                    f"nothing would sign this webhook: give it a signing_key{other}", pointer="/signing_key"
                ) from None
        after = dataclasses.replace(
            known,
            spec=spec,
            options=definition.options,
            opened=opened,
            definition=definition,
            problem=None,
            changed_at=self._clock.now(),
        )
        await self._vault.save(after)
        self._roster.put(after, {})
        if spec.url != known.spec.url:
            await self._wishes.forget_failures(known.name)
        if known.problem is not None:
            await self._release(known.name)

    def _rotated(self, known: definitions.Record, new: str, *, overlap: float) -> definitions.Definition:
        assert known.definition is not None, "what may be changed is defined here"
        now = self._clock.now()
        rotated = known.definition.rotated(new, until=now + overlap).without_expired(now)
        if len(rotated.secrets) > SECRETS_MAX:
            raise errors.RequestRefused(
                f"{SECRETS_MAX} secrets sign already; wait until one of them expires, or give no overlap",
                pointer="/secret",
            )
        return rotated
