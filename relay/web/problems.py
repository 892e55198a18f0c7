"""Every error of the API as ``application/problem+json`` (RFC 9457), and the line logged of a request.

The middleware here is the only place that turns errors into answers. Handlers raise ``Problem`` or
one of ``relay.domain.errors``. An answer never repeats a value that the caller sent (an input may be
large or private), and a log line never holds a body, a header's value or a query.
"""

from __future__ import annotations

import http
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

import pydantic_core
import structlog
from aiohttp import typedefs, web

from relay.domain import errors

CONTENT_TYPE: Final = "application/problem+json"

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""The id of the request at hand: the caller's own ``X-Request-Id`` where it is fit, else a new one."""

FAULTS_MAX: Final = 50
"""Faults told of one request: more help nobody, and their number is up to the caller."""

RETRY_AFTER: Final = "5"
"""Seconds after which a caller may try again when the database is unavailable."""

_PART_MAX: Final = 200
"""Characters of a member's name that are repeated in a pointer."""

_TEXT_MAX: Final = 1000
"""Characters taken of a text that an upstream wrote."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_REQUEST_ID_BYTES: Final = 15

_CONFLICTS: Final = (
    errors.IdempotencyConflict,
    errors.DestinationReadOnly,
    errors.DestinationExists,
    errors.WrongState,
)
"""Refusals that another state of things would not bring."""

_log = structlog.get_logger(__name__)
_threshold = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request.

    ``pointer`` is a JSON pointer relative to the request body, or ``None`` when the fault is not
    in the body; ``parameter`` then names the query parameter or header.
    """

    detail: str
    pointer: str | None = None
    parameter: str | None = None

    def members(self) -> dict[str, str]:
        """As it appears in ``errors``."""
        shown = {"detail": self.detail}
        if self.pointer is not None:
            shown["pointer"] = self.pointer
        if self.parameter is not None:
            shown["parameter"] = self.parameter
        return shown


class Problem(Exception):
    """Raised to answer with ``status``. ``detail`` is one sentence that says what to do."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = faults
        self.headers = headers or {}


def pointer(parts: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) to a place in the body, names in it cut to ``_PART_MAX``."""
    escaped = (str(part)[:_PART_MAX].replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def invalid(faults: Sequence[Fault], *, status: int = 422) -> Problem:
    """The problem of a request with ``faults``; the only one is its detail too."""
    if len(faults) == 1:
        where = faults[0].pointer or faults[0].parameter
        detail = f"{where}: {faults[0].detail}" if where else faults[0].detail
    else:
        detail = f"The request has {len(faults)} faults; see errors."
    return Problem(status, detail, faults=faults)


def members(problem: Problem, request_id: str) -> dict[str, object]:
    """The body for ``problem``; ``errors`` is a member only where there are any, at most ``FAULTS_MAX``."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": _title(problem.status),
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:relay:request:{request_id}",
    }
    if problem.faults:
        body["errors"] = [fault.members() for fault in problem.faults[:FAULTS_MAX]]
    return body


def render(problem: Problem, request_id: str) -> web.Response:
    """The answer for ``problem``."""
    response = web.Response(
        status=problem.status,
        body=pydantic_core.to_json(members(problem, request_id)),
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )
    if problem.status in (408, 413):
        response.force_close()  # the rest of the body is not worth reading
    return response


def new_request_id(randomness: Callable[[int], bytes]) -> str:
    """An id for a request that brings none. ``randomness(n)`` gives ``n`` bytes."""
    return "req_" + randomness(_REQUEST_ID_BYTES).hex()


def middleware(randomness: Callable[[int], bytes], monotonic: Callable[[], float]) -> typedefs.Middleware:
    """The application's one middleware: a request id, every error as a problem, one line logged.

    ``randomness(n)`` gives ``n`` bytes for new request ids; ``monotonic()`` is read for durations.
    """

    @web.middleware
    async def problems(request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
        began = monotonic()
        request_id = request.headers.get("X-Request-Id")
        if request_id is None or not _REQUEST_ID.fullmatch(request_id):
            request_id = new_request_id(randomness)
        request[REQUEST_ID] = request_id
        failure: Exception | None = None
        try:
            response = await handler(request)
        except Exception as exc:
            failure = exc
            response = render(from_error(exc), request_id)
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
        if response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or _threshold.isEnabledFor(logging.DEBUG):
            _write_line(request, response.status, monotonic() - began, failure)
        return response

    return problems


def from_error(error: Exception) -> Problem:
    """What ``error`` means for the caller. Anything that nobody foresaw is a 500 without details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.RequestRefused):
        return _from_refusal(error)
    if isinstance(error, errors.UpstreamError):
        return _from_upstream(error)
    if isinstance(error, errors.ConfigurationError):
        # The worker that knows the services' URLs could not be asked: nothing is wrong with the request.
        return Problem(503, str(error), headers={"Retry-After": RETRY_AFTER})
    if isinstance(error, errors.StoreError):
        return Problem(
            503, "The database cannot be used at the moment; try again.", headers={"Retry-After": RETRY_AFTER}
        )
    if isinstance(error, web.HTTPException):
        return _from_http(error)
    if isinstance(error, web.RequestPayloadError):
        return Problem(400, "The body could not be read as it was sent: check its length and its encoding.")
    return Problem(500, "relay failed to answer; its log says why, under this instance.")


def _from_refusal(error: errors.RequestRefused) -> Problem:
    if isinstance(error, _CONFLICTS):
        return Problem(409, str(error))
    if isinstance(error, errors.SubmissionUnresolved):
        return Problem(504, str(error), headers={"Idempotency-Key": error.idempotency_key})
    return Problem(422, str(error), faults=[Fault(str(error), error.pointer)])


def _from_upstream(error: errors.UpstreamError) -> Problem:
    """An upstream's definite refusal keeps its status and its words; other failures are a bad gateway."""
    status = error.status_code
    if not isinstance(error, errors.UpstreamRejected) or status is None or not 400 <= status < 500:
        return Problem(502, str(error))
    problem = error.problem if isinstance(error.problem, dict) else {}
    texts = (problem.get(name) for name in ("detail", "message", "title"))
    said = next((text for text in texts if _is_text(text)), str(error))
    listed = problem.get("errors")
    faults = listed[:FAULTS_MAX] if isinstance(listed, list) else []
    return Problem(
        status,
        said[:_TEXT_MAX],
        faults=[_upstream_fault(f) for f in faults if isinstance(f, dict) and _is_text(f.get("detail"))],
    )


def _upstream_fault(fault: Mapping[str, object]) -> Fault:
    where = fault.get("pointer")
    return Fault(str(fault["detail"])[:_TEXT_MAX], where[:_TEXT_MAX] if isinstance(where, str) else None)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _from_http(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals: no such route, wrong method, body over the limit."""
    if error.status == http.HTTPStatus.NOT_FOUND:
        return Problem(404, "There is no such route; the API is under /api/v1.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, f"This route takes {allowed}.", headers={"Allow": allowed})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "The body is over the limit; give large media as hosted URLs.")
    return Problem(error.status, error.reason)


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def _write_line(request: web.Request, status: int, seconds: float, failure: Exception | None) -> None:
    resource = request.match_info.route.resource
    line = {
        "request_id": request[REQUEST_ID],
        "method": request.method,
        "route": resource.canonical if resource is not None else None,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
    }
    if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.debug("request.answered", **line)
    elif failure is None or isinstance(failure, (Problem, errors.RelayError, web.HTTPException)):
        # Foreseen: its text is one line without secrets and says more than a traceback.
        _log.error("request.failed", **line, reason=str(failure) if failure is not None else None)
    else:
        _log.error("request.failed", **line, exc_info=failure)
