"""The web application: every endpoint, one middleware, no lifecycle of its own.

The daemon makes the services, runs what ``create_app`` returns and closes it; its janitor calls
``app[auth.AUTHENTICATOR].flush()``. Read ``endpoints.py`` next.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.web import (
    auth,
    deliveries,
    destinations,
    documentation,
    endpoints,
    keys,
    limits,
    models,
    operations,
    problems,
    redeliveries,
    registrations,
    streams,
    submissions,
    tasks,
)

Services = endpoints.Services

ENDPOINTS: Final = documentation.Description(
    [
        *tasks.ENDPOINTS,
        *registrations.ENDPOINTS,
        *streams.ENDPOINTS,
        *models.ENDPOINTS,
        *submissions.ENDPOINTS,
        *destinations.ENDPOINTS,
        *deliveries.ENDPOINTS,
        *redeliveries.ENDPOINTS,
        *keys.ENDPOINTS,
        *operations.ENDPOINTS,
    ]
).endpoints
"""All there is, the description of it included."""


def create_app(services: Services) -> web.Application:
    """The application over ``services``."""
    admin_key = services.settings.security.admin_key
    authenticator = auth.Authenticator(
        services.store,
        admin_key=admin_key.get_secret_value() if admin_key is not None else None,
        now=services.clock.now,
        monotonic=services.clock.monotonic,
    )
    limiter = limits.Limiter(
        services.settings.server.requests_per_second_per_key, monotonic=services.clock.monotonic
    )
    app = web.Application(
        middlewares=[problems.middleware(services.randomness, services.clock.monotonic)],
        client_max_size=services.settings.server.body_max_bytes,
    )
    app[auth.AUTHENTICATOR] = authenticator
    app.on_response_prepare.append(limiter.tell)
    for endpoint in ENDPOINTS:
        handler = endpoints.bind(endpoint, services, authenticator, limiter)
        if endpoint.method == "GET":
            app.router.add_get(endpoint.path, handler)  # and HEAD
        else:
            app.router.add_route(endpoint.method, endpoint.path, handler)
    return app
