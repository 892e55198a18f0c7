"""Connections: what HTTP itself refuses, how long a peer may take, and how that is told.

The application's middleware sees requests that could be read. What could not (no HTTP, a head too
large, two lengths) meets ``_Connection``: a problem body and one line in the log instead of a
traceback for each. Times and sizes that bound a hostile peer are set here and in ``reading.py``.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import structlog
from aiohttp import http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from relay.web import problems

HEAD_TIMEOUT: Final = 75.0
"""Seconds for a request's head to be there whole, from the connection's start or the answer before.
It is also how long an idle connection is kept: longer than the minute that proxies keep theirs."""

LINGER: Final = 5.0
"""Seconds for which what a refused peer still sends is read, so that it sees the answer."""

_UNREADABLE: Final = "This is no HTTP request that could be read: check its first line and its headers."
_TOO_LARGE: Final = "The request's first line or a header is over 8 kB, or there are over 128 headers."

_log = structlog.get_logger(__name__)


class Runner(web.AppRunner):
    """Runs an application on connections of ours. ``shutdown_timeout`` is seconds."""

    def __init__(self, app: web.Application, *, shutdown_timeout: float) -> None:
        super().__init__(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=HEAD_TIMEOUT,
            lingering_time=LINGER,
            # Bodies are read as they come: inflating one is what a bomb waits for.
            auto_decompress=False,
        )

    # aiohttp has no public way to serve an application on other connections than its own.
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **self._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection of a peer."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, or what failed beyond the middleware; then hang up."""
        request_id = problems.new_request_id(secrets.token_bytes)
        if status >= web.HTTPInternalServerError.status_code:
            _log.error("request.failed", request_id=request_id, status=status, exc_info=exc)
            problem = problems.from_error(Exception())
        else:
            too_large = isinstance(exc, http_exceptions.LineTooLong)
            problem = problems.Problem(431, _TOO_LARGE) if too_large else problems.Problem(400, _UNREADABLE)
            # The parser's own words repeat what was sent.
            _log.warning(
                "request.unreadable",
                request_id=request_id,
                peer=request.remote,
                status=problem.status,
                reason=type(exc).__name__,
            )
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        response = problems.render(problem, request_id)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; aiohttp's own refusals that no middleware saw become problems too."""
        if isinstance(resp, web.HTTPException):
            request_id = problems.new_request_id(secrets.token_bytes)
            resp = problems.render(problems.from_error(resp), request_id)
            resp.headers["X-Request-Id"] = request_id
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What aiohttp would log with a traceback: one line of ours."""
        failure = kw.get("exc_info")
        _log.error("connection.failed", reason=type(failure).__name__ if failure else str(args[0]))
