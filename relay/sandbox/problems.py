"""Errors of the sandbox as ``application/problem+json`` (RFC 9457).

Handlers raise ``Problem``; the middleware here is the only place that turns errors into answers.
No answer repeats a value that the client sent: inputs may be large or private.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import pydantic_core
from aiohttp import web

from relay.catalogue import faults

CONTENT_TYPE: Final = "application/problem+json"

_log = logging.getLogger("relay.sandbox")

_ROUTES: Final = "POST /api/v1/tasks, GET /api/v1/tasks/{id}, GET /api/v1/tasks/{id}/events"


class Problem(Exception):
    """Raised to answer with ``status``. ``detail`` is one sentence that says what to do."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[faults.Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers


def render(problem: Problem) -> web.Response:
    """The answer for ``problem``; ``errors`` is a member only where there are any, at most
    ``faults.FAULTS_MAX``."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [asdict(fault) for fault in problem.errors[: faults.FAULTS_MAX]]
    return web.Response(
        status=problem.status,
        body=pydantic_core.to_json(body),
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def _from_http(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals: no such route, wrong method, body over the limit."""
    if error.status == http.HTTPStatus.NOT_FOUND:
        return Problem(404, f"There is no such route; the sandbox serves {_ROUTES}.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, f"This route takes {allowed}.", headers={"Allow": allowed})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "The body is over the limit; give large media as hosted URLs.")
    return Problem(error.status, error.reason)


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every error into a problem; the unexpected ones are logged with their traceback."""
    try:
        return await handler(request)
    except Problem as problem:
        return render(problem)
    except web.HTTPException as error:
        if error.status < http.HTTPStatus.BAD_REQUEST:
            raise
        return render(_from_http(error))
    except Exception:
        _log.exception("the sandbox failed to answer")
        return render(Problem(500, "The sandbox failed; its log says why."))
