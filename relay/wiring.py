"""Settings as the parts take them: one function per part. Nothing is decided or opened here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relay import sealing
from relay.domain import health, model, schedule
from relay.engine import definitions, poller, submissions
from relay.senders import base as senders_base
from relay.senders import opening as senders_opening
from relay.settings import Settings
from relay.store import opening as store_opening

RELOADED = ("destinations", "routes", "operator")
"""Sections that are taken up while the daemon runs; the others need a restart."""


def destination_spec(settings: Settings, name: str) -> senders_base.DestinationSpec:
    """``[destinations.NAME]`` as the senders take it."""
    one = settings.destinations[name]
    secrets = [secret for secret in (one.secret, one.previous_secret) if secret is not None]
    return senders_base.DestinationSpec(
        name=name,
        url=one.url.get_secret_value(),
        secrets=tuple(secret.get_secret_value() for secret in secrets),
        signing_key=one.signing_key.get_secret_value() if one.signing_key is not None else None,
        headers={header: value.get_secret_value() for header, value in one.headers.items()},
        timeout=one.timeout,
        concurrency=one.concurrency,
    )


def configured(settings: Settings) -> dict[str, definitions.Configured]:
    """``[destinations]`` as the registry takes it."""
    return {
        name: definitions.Configured(
            spec=destination_spec(settings, name),
            options=model.DestinationOptions(
                statuses=None if one.statuses is None else frozenset(one.statuses),
                prompt=one.prompt,
                schedule=tuple(one.schedule),
                timeout=one.timeout,
                concurrency=one.concurrency,
                rate=one.rate,
                age_max=one.age_max,
                retry_after_max=one.retry_after_max,
            ),
        )
        for name, one in settings.destinations.items()
    }


def routes(settings: Settings) -> list[model.Route]:
    """``[[routes]]``, in their order."""
    return [
        model.Route(
            notify=tuple(route.notify),
            status=None if route.when.status is None else tuple(route.when.status),
            model=route.when.model,
        )
        for route in settings.routes
    ]


def failing(settings: Settings) -> health.Policy:
    """``[failing]`` as the rules take it."""
    return health.Policy(window=settings.failing.window, changes_min=settings.failing.changes_min)


def network(settings: Settings) -> senders_opening.NetworkConfig:
    """``[network]`` as the senders take it."""
    proxy = settings.network.proxy
    return senders_opening.NetworkConfig(
        allow_private=tuple(settings.network.allow_private),
        proxy=proxy.get_secret_value() if proxy else None,
        ca_file=settings.network.ca_file,
    )


def sealer(settings: Settings) -> sealing.Sealer:
    """``[security] secret_key``, and the key file beside the database.

    Raises ``errors.ConfigurationError`` for a ``store.url`` that cannot be used.
    """
    keys = [key.get_secret_value() for key in settings.security.secret_key]
    return sealing.Sealer(keys, key_file=key_file(settings))


def key_file(settings: Settings) -> Path:
    """Where the key is that relay makes itself: ``relay.db.key`` beside ``relay.db``."""
    database = store_opening.sqlite_path(settings.store.url)
    return database.with_name(f"{database.name}.key")


def poller_options(settings: Settings, name: str) -> poller.Options:
    """``[upstreams.NAME]`` as its poller takes it."""
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


def submission_options(settings: Settings) -> dict[str, submissions.Options]:
    """``[upstreams]`` as submissions take them."""
    return {
        name: submissions.Options(
            submit_timeout=one.submit_timeout, idempotency_window=one.idempotency_window
        )
        for name, one in settings.upstreams.items()
    }


def restart_needed(running: Settings, other: Settings) -> Sequence[str]:
    """Sections in which ``other`` differs from what runs, and which a reload does not take up."""
    return [
        name
        for name in Settings.model_fields
        if name not in RELOADED and getattr(running, name) != getattr(other, name)
    ]
