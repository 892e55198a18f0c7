"""``/openapi.json`` and ``/docs``: the API described by itself. No key is needed.

Both are made once, when first asked for, from the list of endpoints. Read ``openapi.py`` and
``docs_page.py`` for how; they are loaded then too, because most daemons are never asked.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Final

import pydantic_core
from aiohttp import web

from relay.web import endpoints

_FRESH: Final = "no-cache"
"""May be kept, but is asked for anew: a newer relay says something else."""


class Description:
    """The description of ``endpoints``, which are those given and the two that serve it."""

    def __init__(self, described: Sequence[endpoints.Endpoint]) -> None:
        own = (
            self._endpoint("/openapi.json", self.openapi, "application/json"),
            self._endpoint("/docs", self.docs, "text/html"),
        )
        self.endpoints: Final = (*described, *own)

    async def openapi(self, call: endpoints.Call) -> web.Response:
        """This description of the API, OpenAPI 3.1."""
        return _served(call.request, self._document, "application/json", {})

    async def docs(self, call: endpoints.Call) -> web.Response:
        """The API described for people."""
        from relay.web import docs_page

        return _served(call.request, self._page, "text/html", docs_page.HEADERS)

    @functools.cached_property
    def _document(self) -> bytes:
        from relay.web import openapi

        return pydantic_core.to_json(openapi.document(self.endpoints))

    @functools.cached_property
    def _page(self) -> bytes:
        from relay.web import docs_page, openapi

        return docs_page.render(openapi.document(self.endpoints)).encode()

    @staticmethod
    def _endpoint(path: str, handler: endpoints.Handler, media: str) -> endpoints.Endpoint:
        return endpoints.Endpoint(
            method="GET",
            path=path,
            handler=handler,
            answers={200: None, 304: None},
            access=endpoints.Access.OPEN,
            media=(media,),
            reads=("If-None-Match",),
            sends=("ETag",),
        )


def _served(request: web.Request, body: bytes, content_type: str, headers: dict[str, str]) -> web.Response:
    """``body``, or 304 where the caller has it (RFC 9110)."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = headers | {"ETag": tag, "Cache-Control": _FRESH}
    offered = [
        each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")
    ]
    if tag in offered or offered == ["*"]:
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if content_type.startswith("text/") else None
    return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)
