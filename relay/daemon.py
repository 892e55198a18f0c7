"""The composition root: opens everything in order, closes it in reverse, and owns signals.

Nothing is decided here. ``running`` is the daemon in-process (tests, ``relay demo``); ``run`` is the
process: signals, systemd, the one line on stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from aiohttp import web

from relay import wiring
from relay.catalogue import opening as catalogue
from relay.domain import errors, routing
from relay.engine import (
    batcher,
    clock,
    definitions,
    destinations,
    dispatcher,
    feed,
    health,
    intake,
    janitor,
    outbox,
    poller,
    pollers,
    recording,
    redelivery,
    reloading,
    submissions,
    supervisor,
    systemd,
)
from relay.engine import randomness as randomness_module
from relay.senders import base as senders_base
from relay.senders import dialling
from relay.senders import opening as senders_opening
from relay.settings import Settings
from relay.store import base as store_base
from relay.store import opening as store_opening
from relay.upstreams import mindvideo
from relay.web import app as web_app
from relay.web import auth, serving, streams

log = structlog.get_logger(__name__)

COLLECT_AFTER: Final = 10_000
"""New objects after which the garbage collector looks at them; Python's own 700 suits small programs."""

RESUME_PAGE: Final = 500
"""Tasks read at once when the watch list is rebuilt."""

CLOSE_TIMEOUT: Final = 3.0
"""Seconds for closing what is left after the drain, before the process goes anyway."""

Randomness = Callable[[int], bytes]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A daemon that serves at ``url``. ``services`` is what its handlers use.

    ``reload`` takes destinations, routes and operator from other settings, all or nothing. It raises
    ``errors.ConfigurationError`` and ``errors.StoreError``, and answers with what it changed.
    """

    url: str
    services: web_app.Services
    supervisor: supervisor.Supervisor
    reload: Callable[[Settings], Awaitable[definitions.Changes]]


def _as_it_is(port: T) -> T:
    return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What stands between the engine and its adapters: each is given the real one and gives what is used.

    Nothing does, unless whoever composes the daemon wants to watch or to break what passes there.
    """

    store: Callable[[store_base.Store], store_base.Store] = _as_it_is
    opener: Callable[[senders_base.Opener], senders_base.Opener] = _as_it_is


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    time: clock.Clock | None = None,
    rng: random.Random | None = None,
    randomness: Randomness | None = None,
    ways: dialling.Dialling = dialling.SYSTEM,
    ports: Ports | None = None,
) -> AsyncIterator[Running]:
    """Run the daemon; leaving the block drains and closes it. ``ports`` of ``None`` are the real ones.

    Raises ``errors.ConfigurationError``, ``errors.StoreError`` and ``OSError`` (the port) before
    anything runs.
    """
    ticking = time or clock.SystemClock()
    rolls = rng or random.Random()  # noqa: S311 - jitter, no secret
    fresh = randomness or randomness_module.Pool(secrets.token_bytes)
    through = ports or Ports()
    async with contextlib.AsyncExitStack() as stack:
        made = senders_opening.make_senders(wiring.network(settings), now=ticking.now, ways=ways)
        stack.push_async_callback(made.aclose)
        senders = through.opener(made)
        configured = wiring.configured(settings)
        opened = await senders.open(*(one.spec for one in configured.values()))
        asking = await _open_upstreams(settings, ticking, stack)
        kept = await store_opening.open_store(settings.store.url, exclusive=True, migrate=True)
        stack.push_async_callback(kept.aclose)
        store = through.store(kept)
        judge = wiring.judge(settings, ways)
        engine = _Engine(settings, store, senders, asking, ticking, rolls, fresh, judge)
        services = engine.services()
        app = web_app.create_app(services)
        flush_keys = app[auth.AUTHENTICATOR].flush
        stack.push_async_callback(_without_fail, flush_keys)
        stack.push_async_callback(engine.close)
        await engine.destinations.start(
            configured, opened, routes=wiring.routes(settings), operator=settings.operator.notify
        )
        reloading.taken_up(ticking.now())
        await engine.resume()
        site, url = await _listen(app, settings, stack)
        engine.start(flush_keys=flush_keys)
        stack.push_async_callback(engine.drain, site, settings.server.drain_timeout)
        yield Running(url=url, services=services, supervisor=engine.supervisor, reload=engine.reload)


async def _open_upstreams(
    settings: Settings, ticking: clock.Clock, stack: contextlib.AsyncExitStack
) -> dict[str, mindvideo.MindVideo]:
    if not settings.upstreams:
        raise errors.ConfigurationError(
            "no upstream is configured: set RELAY_UPSTREAMS__MINDVIDEO__API_KEY, or add "
            "[upstreams.mindvideo] with api_key to the file"
        )
    opened = {}
    for name, one in settings.upstreams.items():
        upstream = mindvideo.MindVideo(
            name=name,
            base_url=one.base_url,
            api_key=one.api_key.get_secret_value(),
            timeout=one.request_timeout,
            submit_timeout=one.submit_timeout,
            connections=one.concurrency + 16,  # creates and confirmations beside the polls
            now=ticking.now,
            monotonic=ticking.monotonic,
        )
        await upstream.open()
        stack.push_async_callback(upstream.aclose)
        opened[name] = upstream
    return opened


async def _listen(
    app: web.Application, settings: Settings, stack: contextlib.AsyncExitStack
) -> tuple[web.TCPSite, str]:
    """Listen; the site and the URL where it really is (port 0 picks one)."""
    runner = serving.Runner(app, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.server.host, settings.server.port)
    await site.start()
    host, port = runner.addresses[0][:2]
    return site, f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _without_fail(last_write: Callable[[], Awaitable[None]]) -> None:
    """What is nice to have written must not make an orderly stop look like a failure."""
    with contextlib.suppress(errors.StoreError):
        await last_write()


class _Engine:
    """Everything that moves, wired together."""

    def __init__(
        self,
        settings: Settings,
        store: store_base.Store,
        senders: senders_base.Opener,
        asking: Mapping[str, mindvideo.MindVideo],
        ticking: clock.Clock,
        rolls: random.Random,
        randomness: Randomness,
        judge: definitions.Judge,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._catalogue = catalogue.open_catalogue(settings.catalogue.files, settings.catalogue.retired)
        self._store = store
        self._clock = ticking
        self._randomness = randomness
        self._rolls = rolls
        self.supervisor = supervisor.Supervisor(ticking)
        # Empty until the registry starts.
        self._box = outbox.Outbox(routing.Table(destinations={}), public_url=settings.server.public_url)
        self.feed = feed.Feed(store, render=streams.frame)
        self._writes = batcher.Batcher("writes", self.feed.write)
        self.dispatcher = self._make_dispatcher()
        self.destinations = self._make_destinations(senders)
        recorder = recording.Recorder(
            store=store, writes=self._writes, dispatcher=self.dispatcher, box=self._box, clock=ticking
        )
        self._poller_loops = self._make_pollers(asking, recorder)
        self.pollers = pollers.Pollers(self._poller_loops)
        self.intake = intake.Intake(
            store=store,
            recorder=recorder,
            pollers=self.pollers,
            box=self._box,
            clock=ticking,
            randomness=randomness,
        )
        self.submissions = submissions.Submissions(
            store=store,
            upstreams=asking,
            options=wiring.submission_options(settings),
            intake=self.intake,
            supervisor=self.supervisor,
            clock=ticking,
            randomness=randomness,
            notice=self._notice,
        )
        self.redeliveries = redelivery.Redeliveries(
            store=store,
            dispatcher=self.dispatcher,
            kept_days=settings.retention.attempts_days,
            clock=ticking,
            randomness=randomness,
        )
        self.health = health.Health(
            store=store, supervisor=self.supervisor, dispatcher=self.dispatcher, clock=ticking
        )

    def _make_dispatcher(self) -> dispatcher.Dispatcher:
        return dispatcher.Dispatcher(
            store=self._store,
            destinations=(),
            policy=wiring.failing(self._settings),
            resume_rate=self._settings.failing.resume_rate,
            box=self._box,
            supervisor=self.supervisor,
            recorder=self._writes,
            clock=self._clock,
            rng=self._rolls,
            randomness=self._randomness,
        )

    def _make_destinations(self, senders: senders_base.Opener) -> destinations.Destinations:
        return destinations.Destinations(
            store=self._store,
            opener=senders,
            judge=self._judge,
            sealer=wiring.sealer(self._settings),
            dispatcher=self.dispatcher,
            box=self._box,
            clock=self._clock,
            randomness=self._randomness,
            resume_rate=self._settings.failing.resume_rate,
            inline_kept=self._settings.retention.tasks_days * janitor.DAY,
        )

    def _make_pollers(
        self, asking: Mapping[str, mindvideo.MindVideo], recorder: recording.Recorder
    ) -> dict[str, poller.Poller]:
        return {
            name: poller.Poller(
                upstream,
                wiring.poller_options(self._settings, name),
                recorder=recorder,
                supervisor=self.supervisor,
                clock=self._clock,
                rng=self._rolls,
                notice=self._notice,
            )
            for name, upstream in asking.items()
        }

    async def _notice(self, kind: str, key: str, text: str) -> None:
        await self.dispatcher.notify_operator(kind, key=key, text=text)

    def services(self) -> web_app.Services:
        """What the web application uses."""
        return web_app.Services(
            store=self._store,
            intake=self.intake,
            submissions=self.submissions,
            pollers=self.pollers,
            dispatcher=self.dispatcher,
            redeliveries=self.redeliveries,
            feed=self.feed,
            health=self.health,
            clock=self._clock,
            settings=self._settings,
            catalogue=self._catalogue,
            destinations=self.destinations,
            randomness=self._randomness,
        )

    def start(self, *, flush_keys: Callable[[], Awaitable[None]]) -> None:
        """Start every loop."""
        days = self._settings.retention
        caretaker = janitor.Janitor(
            store=self._store,
            days=janitor.Days(tasks=days.tasks_days, events=days.events_days, attempts=days.attempts_days),
            dispatcher=self.dispatcher,
            clock=self._clock,
            chores=[flush_keys, self.destinations.care, self.redeliveries.tidy],
        )
        loops: list[supervisor.Loop] = [self._writes, self.dispatcher, caretaker]
        loops += [self.redeliveries, self.feed, *self._poller_loops.values()]
        if (interval := systemd.watchdog_interval()) is not None:
            loops.append(systemd.Watchdog(interval, self.health.alive))
        for loop in loops:
            self.supervisor.start(loop)

    async def resume(self) -> None:
        """Take up what a former process left: leases, held deliveries, watches, open submissions.

        Before any loop runs: leases found now are nobody's.
        """
        now = self._clock.now()
        voided = await self._store.void_leases(now=now)
        held, released = await self.destinations.settle()
        after: str | None = None
        watched = 0
        while page := await self._store.running(after=after, limit=RESUME_PAGE):
            for watch in page:
                # Soon, but not all at once: the budget paces the rest.
                self.pollers.watch(watch, delay=self._rolls.uniform(0.0, 2.0))
            watched += len(page)
            after = page[-1].task.id
        self.dispatcher.wake.set()
        await self.submissions.resume()
        log.info("resumed", tasks=watched, leases_voided=voided, held=held, released=released)

    async def reload(self, settings: Settings) -> definitions.Changes:
        """See ``Running.reload``."""
        changes = await self.destinations.reload(
            wiring.configured(settings), routes=wiring.routes(settings), operator=settings.operator.notify
        )
        if sections := wiring.restart_needed(self._settings, settings):
            log.warning("settings changed that need a restart", sections=sections)
        return changes

    async def drain(self, site: web.TCPSite, timeout: float) -> None:
        """Take nothing new, let sends end within ``timeout`` seconds, release the rest."""
        self.health.draining = True
        self.feed.drain()
        systemd.notify("STOPPING=1")
        await site.stop()
        self.pollers.drain()
        self.submissions.drain()
        self.dispatcher.drain()
        cut = await self.supervisor.drain(timeout)
        log.info("drained", attempts_released=cut)

    async def close(self) -> None:
        """Write what was handed in, then stop every loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._writes.flushed()
        await self.supervisor.stop()


# -- the process ------------------------------------------------------------------------------------


def run(settings: Settings, *, reread: Callable[[], Settings]) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal ends the process at once.

    SIGHUP has destinations, routes and operator taken from what ``reread`` gives; what cannot be used
    is logged and changes nothing.

    2: the configuration or the database's schema cannot be used, and a restart would not help.
    1: database or port cannot be had. 0: stopped as asked.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, reread))
    except (errors.ConfigurationError, errors.SchemaTooNew, errors.SchemaChanged) as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201
        return 2
    except errors.StoreError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as exc:
        where = f"{settings.server.host}:{settings.server.port}"
        # asyncio's own text repeats the address; a failed look-up has a negative number and a good text.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or exc
        advice = "; choose another server.port or server.host" if exc.errno == errno.EADDRINUSE else ""
        print(f"error: cannot listen on {where}: {reason}{advice}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    signals = _Signals()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.stop)
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, signals.reload)
    async with running(settings) as daemon:
        await _advise_on_keys(settings, daemon)
        reloader = reloading.Reloading(reread=reread, apply=daemon.reload, clock=daemon.services.clock)
        print(f"relay listening on {daemon.url}", flush=True)  # noqa: T201
        systemd.notify("READY=1")
        set_aside_what_is()
        while await signals.reloading():
            daemon.supervisor.spawn(reloader.once(), name="reload")
        log.info("stopping")


def set_aside_what_is() -> None:
    """Spare the garbage collector what was made so far and stays, and have it look at the rest less often.

    What registered tasks keep in memory survives each of its walks, which were a tenth of the CPU of
    registering and telling (``bench register``, ``bench pipeline``). For the process that serves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


class _Signals:
    """What the process was told by signals."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._stop = False

    def stop(self) -> None:
        """SIGTERM or SIGINT came."""
        if self._stop:
            # Everything that must survive is committed or will be sent again with the same id.
            os._exit(1)
        self._stop = True
        self._told.set()

    def reload(self) -> None:
        """SIGHUP came, perhaps before the daemon was ready: it is not lost."""
        self._told.set()

    async def reloading(self) -> bool:
        """Wait for the next: ``True`` to reload, ``False`` to stop."""
        await self._told.wait()
        self._told.clear()
        return not self._stop


async def _advise_on_keys(settings: Settings, daemon: Running) -> None:
    """Without any key nobody can talk to this daemon: say how to make one."""
    if settings.security.admin_key is None and not await daemon.services.store.keys():
        print(  # noqa: T201
            "no API key yet; make one (with the same --config): relay keys create NAME --role admin --local",
            file=sys.stderr,
            flush=True,
        )
