"""How a route becomes a handler: who may call it, what it reads, what it answers.

A handler is ``async def handler(call, *, task: str, body: Model, query: Model)``, each part only
where the route has it. The models come from its annotations and its summary from its docstring, so
a description of the API needs nothing beside the list of ``Endpoint``. Owns no lifecycle.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_type_hints

import pydantic
import pydantic_core
from aiohttp import web

from relay import settings as settings_module
from relay.catalogue import models as catalogue
from relay.engine import clock as clocks
from relay.engine import destinations as destinations_module
from relay.engine import dispatcher as dispatchers
from relay.engine import feed as feeds
from relay.engine import health as healths
from relay.engine import intake as intakes
from relay.engine import pollers as pollers_module
from relay.engine import redelivery as redelivery_module
from relay.engine import submissions as submissions_module
from relay.store import base as store_base
from relay.web import auth, limits, problems, reading

API: Final = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the handlers use; made and closed by the daemon. ``randomness(n)`` gives ``n`` bytes."""

    store: store_base.Store
    intake: intakes.Intake
    submissions: submissions_module.Submissions
    pollers: pollers_module.Pollers
    dispatcher: dispatchers.Dispatcher
    redeliveries: redelivery_module.Redeliveries
    feed: feeds.Feed
    health: healths.Health
    clock: clocks.Clock
    settings: settings_module.Settings
    catalogue: catalogue.Catalogue
    destinations: destinations_module.Destinations
    randomness: Callable[[int], bytes]


class Access(enum.Enum):
    """Who may call an endpoint."""

    OPEN = "open"
    """Anybody: what it answers is no secret."""
    CLIENT = "client"
    """Any API key."""
    ADMIN = "admin"
    """API keys with the role admin."""


@dataclass(slots=True)  # not frozen: one is made with every request
class Call:
    """One request on its way through a handler.

    ``caller`` raises ``LookupError`` on an open endpoint: nobody was asked there.
    """

    request: web.Request
    services: Services
    authenticator: auth.Authenticator
    known_caller: auth.Caller | None

    @property
    def caller(self) -> auth.Caller:
        """Whose request it is."""
        if self.known_caller is None:
            raise LookupError("an open endpoint has no caller")
        return self.known_caller


Handler = Callable[..., Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route, with what a description of it needs beyond the handler's own signature.

    ``answers`` are the models of its successful answers by status; ``None`` is a body that is not
    JSON, or none. ``media`` are the types of a successful body. ``reads`` names the request headers
    that the handler looks at and ``sends`` those of its successful answers. ``refusals`` are statuses
    of problems beyond the ones that follow from access, path, query and body. Every name and status
    has its words in ``words.py``.
    """

    method: str
    path: str
    handler: Handler
    answers: Mapping[int, type[pydantic.BaseModel] | None]
    access: Access = Access.CLIENT
    media: tuple[str, ...] = ("application/json",)
    reads: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    refusals: tuple[int | str, ...] = ()
    body: type[pydantic.BaseModel] | None = field(init=False)
    query: type[pydantic.BaseModel] | None = field(init=False)
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        hints = get_type_hints(self.handler)
        object.__setattr__(self, "body", hints.get("body"))
        object.__setattr__(self, "query", hints.get("query"))
        names = list(inspect.signature(self.handler).parameters)[1:]
        object.__setattr__(self, "parameters", tuple(n for n in names if n not in ("body", "query")))

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """What the handler's docstring says beyond its first line."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[2].strip()


def bind(
    endpoint: Endpoint, services: Services, authenticator: auth.Authenticator, limiter: limits.Limiter
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of ``endpoint``: authenticate, parse, call."""

    async def handle(request: web.Request) -> web.StreamResponse:
        caller = None
        if endpoint.access is not Access.OPEN:
            caller = await authenticator.caller(request.headers.get("Authorization"))
            limiter.take(request, caller.key_id)
            if endpoint.access is Access.ADMIN:
                auth.require_admin(caller)
        parts: dict[str, Any] = {name: request.match_info[name] for name in endpoint.parameters}
        if endpoint.query is not None:
            parts["query"] = reading.query(request, endpoint.query)
        if endpoint.body is not None:
            parts["body"] = await reading.body(request, endpoint.body)
        return await endpoint.handler(Call(request, services, authenticator, caller), **parts)

    return handle


def answer(
    model: pydantic.BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """``model`` as JSON; members that were never set are left out."""
    return answer_raw(
        model.__pydantic_serializer__.to_json(model, exclude_unset=True), status=status, headers=headers
    )


def answer_raw(raw: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON that is written already."""
    return web.Response(status=status, body=raw, content_type="application/json", headers=headers)


def answer_json(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A value of decoded JSON."""
    return answer_raw(pydantic_core.to_json(value, inf_nan_mode="null"), status=status, headers=headers)


def not_found(what: str) -> problems.Problem:
    """There is no such thing, or none that this caller may see: both are told alike."""
    return problems.Problem(404, f"There is no such {what}, or this key does not see it.")
