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
from typing import Final

import structlog
from aiohttp import web

from relay.catalogue import opening as catalogue
from relay.domain import errors, model, routing, schedule
from relay.engine import (
    batcher,
    clock,
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
    submissions,
    supervisor,
    systemd,
)
from relay.engine import randomness as randomness_module
from relay.senders import opening as senders_opening
from relay.settings import Settings
from relay.store import base as store_base
from relay.store import opening as store_opening
from relay.upstreams import mindvideo
from relay.web import app as web_app
from relay.web import auth, serving, streams

log = structlog.get_logger(__name__)

RESUME_PAGE: Final = 500
"""Tasks read at once when the watch list is rebuilt."""

CLOSE_TIMEOUT: Final = 3.0
"""Seconds for closing what is left after the drain, before the process goes anyway."""

Randomness = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A daemon that serves at ``url``. ``services`` is what its handlers use."""

    url: str
    services: web_app.Services
    supervisor: supervisor.Supervisor


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    time: clock.Clock | None = None,
    rng: random.Random | None = None,
    randomness: Randomness | None = None,
) -> AsyncIterator[Running]:
    """Run the daemon; leaving the block drains and closes it.

    Raises ``errors.ConfigurationError``, ``errors.StoreError`` and ``OSError`` (the port) before
    anything runs.
    """
    ticking = time or clock.SystemClock()
    rolls = rng or random.Random()  # noqa: S311 - jitter, no secret
    fresh = randomness or randomness_module.Pool(secrets.token_bytes)
    async with contextlib.AsyncExitStack() as stack:
        senders = await senders_opening.open_senders(
            [destination_config(settings, name) for name in settings.destinations],
            network_config(settings),
            now=ticking.now,
        )
        stack.push_async_callback(senders.aclose)
        asking = await _open_upstreams(settings, ticking, stack)
        store = await store_opening.open_store(settings.store.url, exclusive=True, migrate=True)
        stack.push_async_callback(store.aclose)
        engine = _Engine(settings, store, senders, asking, ticking, rolls, fresh)
        services = engine.services()
        app = web_app.create_app(services)
        flush_keys = app[auth.AUTHENTICATOR].flush
        stack.push_async_callback(_without_fail, flush_keys)
        stack.push_async_callback(engine.close)
        await engine.resume()
        site, url = await _listen(app, settings, stack)
        engine.start(flush_keys=flush_keys)
        stack.push_async_callback(engine.drain, site, settings.server.drain_timeout)
        yield Running(url=url, services=services, supervisor=engine.supervisor)


def destination_config(settings: Settings, name: str) -> senders_opening.DestinationConfig:
    """``[destinations.NAME]`` as the senders take it."""
    one = settings.destinations[name]
    return senders_opening.DestinationConfig(
        name=name,
        url=one.url.get_secret_value(),
        secrets=(one.secret.get_secret_value(),) if one.secret else (),
        timeout=one.timeout,
    )


def network_config(settings: Settings) -> senders_opening.NetworkConfig:
    """``[network]`` as the senders take it."""
    proxy = settings.network.proxy
    return senders_opening.NetworkConfig(
        allow_private=tuple(settings.network.allow_private),
        proxy=proxy.get_secret_value() if proxy else None,
        ca_file=settings.network.ca_file,
    )


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
        senders: senders_opening.Senders,
        asking: Mapping[str, mindvideo.MindVideo],
        ticking: clock.Clock,
        rolls: random.Random,
        randomness: Randomness,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue.open_catalogue(settings.catalogue.files, settings.catalogue.retired)
        self._store = store
        self._clock = ticking
        self._randomness = randomness
        self._rolls = rolls
        self.supervisor = supervisor.Supervisor(ticking)
        self._box = outbox.Outbox(
            _table(settings, senders),
            operator=settings.operator.notify,
            public_url=settings.server.public_url,
        )
        self.feed = feed.Feed(store, render=streams.frame)
        self._task_writes = batcher.Batcher("task writes", self.feed.record)
        self._attempt_writes = batcher.Batcher("attempt writes", store.record_attempts)
        self.dispatcher = self._make_dispatcher(senders)
        recorder = recording.Recorder(
            store=store, writes=self._task_writes, dispatcher=self.dispatcher, box=self._box, clock=ticking
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
            options=_submission_options(settings),
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

    def _make_dispatcher(self, senders: senders_opening.Senders) -> dispatcher.Dispatcher:
        destinations = self._settings.destinations
        return dispatcher.Dispatcher(
            store=self._store,
            senders=senders.senders,
            schedules={name: tuple(one.schedule) for name, one in destinations.items()},
            box=self._box,
            supervisor=self.supervisor,
            recorder=self._attempt_writes,
            clock=self._clock,
            rng=self._rolls,
            randomness=self._randomness,
        )

    def _make_pollers(
        self, asking: Mapping[str, mindvideo.MindVideo], recorder: recording.Recorder
    ) -> dict[str, poller.Poller]:
        return {
            name: poller.Poller(
                upstream,
                _poller_options(self._settings, name),
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

    async def _hold_unconfigured(self) -> None:
        """Registrations may still name destinations that left the configuration."""
        known = self._settings.destinations
        if (await self._store.due()).keys() - known.keys():
            await self._store.hold_unconfigured(known, now=self._clock.now())

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
            table=self._box.table,
            randomness=self._randomness,
        )

    def start(self, *, flush_keys: Callable[[], Awaitable[None]]) -> None:
        """Start every loop."""
        days = self._settings.retention
        caretaker = janitor.Janitor(
            store=self._store,
            days=janitor.Days(tasks=days.tasks_days, events=days.events_days, attempts=days.attempts_days),
            clock=self._clock,
            chores=[flush_keys, self._hold_unconfigured, self.redeliveries.tidy],
        )
        loops: list[supervisor.Loop] = [self._task_writes, self._attempt_writes, self.dispatcher, caretaker]
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
        held, released = await self._store.hold_unconfigured(self._settings.destinations, now=now)
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
                await self._task_writes.flushed()
                await self._attempt_writes.flushed()
        await self.supervisor.stop()


def _table(settings: Settings, senders: senders_opening.Senders) -> routing.Table:
    destinations = {
        name: model.Destination(
            name=name,
            format=senders.senders[name].format,
            statuses=None if one.statuses is None else frozenset(one.statuses),
            prompt=one.prompt,
        )
        for name, one in settings.destinations.items()
    }
    routes = [
        model.Route(
            notify=tuple(route.notify),
            status=None if route.when.status is None else tuple(route.when.status),
            model=route.when.model,
        )
        for route in settings.routes
    ]
    return routing.Table(destinations=destinations, routes=routes)


def _poller_options(settings: Settings, name: str) -> poller.Options:
    one = settings.upstreams[name]
    return poller.Options(
        pace=schedule.Pace(
            interval_min=one.poll_interval_min,
            interval_max=one.poll_interval_max,
            stall_timeout=one.stall_timeout,
        ),
        requests_per_second=one.requests_per_second,
        concurrency=one.concurrency,
        confirm_timeout=one.confirm_timeout,
    )


def _submission_options(settings: Settings) -> dict[str, submissions.Options]:
    return {
        name: submissions.Options(
            submit_timeout=one.submit_timeout, idempotency_window=one.idempotency_window
        )
        for name, one in settings.upstreams.items()
    }


# -- the process ------------------------------------------------------------------------------------


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal ends the process at once.

    2: the configuration or the database's schema cannot be used, and a restart would not help.
    1: database or port cannot be had. 0: stopped as asked.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings))
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


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    async with running(settings) as daemon:
        await _advise_on_keys(settings, daemon)
        print(f"relay listening on {daemon.url}", flush=True)  # noqa: T201
        systemd.notify("READY=1")
        # What was made so far stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        await stop.wait()
        log.info("stopping")


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        # Everything that must survive is committed or will be sent again with the same id.
        os._exit(1)
    stop.set()


async def _advise_on_keys(settings: Settings, daemon: Running) -> None:
    """Without any key nobody can talk to this daemon: say how to make one."""
    if settings.security.admin_key is None and not await daemon.services.store.keys():
        print(  # noqa: T201
            "no API key yet; make one (with the same --config): relay keys create NAME --role admin --local",
            file=sys.stderr,
            flush=True,
        )
