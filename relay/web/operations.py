"""What operators and their tools ask for: probes, metrics, and what this is. No key is needed.

None of it holds a secret: metrics carry configured names and counts.
"""

from __future__ import annotations

from typing import Final

import prometheus_client.aiohttp
from aiohttp import web

from relay import metrics
from relay.web import endpoints, problems
from relay.web.schemas import operations as schemas

_metrics = prometheus_client.aiohttp.make_aiohttp_handler(registry=metrics.REGISTRY)


async def livez(call: endpoints.Call) -> web.Response:
    """Whether the process answers at all."""
    return endpoints.answer(schemas.Health(status="ok"))


async def readyz(call: endpoints.Call) -> web.Response:
    """Whether the work gets done: 503 with the reasons when it does not."""
    reasons = await call.services.health.check()
    if reasons:
        raise problems.Problem(
            503, f"Not ready: {'; '.join(reasons)}.", faults=[problems.Fault(reason) for reason in reasons]
        )
    return endpoints.answer(schemas.Health(status="ready"))


async def measurements(call: endpoints.Call) -> web.StreamResponse:
    """Metrics in the format of Prometheus."""
    return await _metrics(call.request)


async def index(call: endpoints.Call) -> web.Response:
    """What answers here."""
    return endpoints.answer(schemas.Index(name="relay", api=endpoints.API))


def _endpoint(
    path: str,
    handler: endpoints.Handler,
    answer: type[schemas.Health | schemas.Index] | None,
    *,
    media: tuple[str, ...] = ("application/json",),
    refusals: tuple[int, ...] = (),
) -> endpoints.Endpoint:
    return endpoints.Endpoint(
        method="GET",
        path=path,
        handler=handler,
        answers={200: answer},
        access=endpoints.Access.OPEN,
        media=media,
        refusals=refusals,
    )


ENDPOINTS: Final = (
    _endpoint("/livez", livez, schemas.Health),
    _endpoint("/readyz", readyz, schemas.Health, refusals=(503,)),
    _endpoint("/metrics", measurements, None, media=("text/plain", "application/openmetrics-text")),
    _endpoint("/", index, schemas.Index),
)
