"""``relay listen``: a receiver that verifies signatures and prints what comes.

Also the model of a good receiver: verify the exact bytes, answer quickly, do everything once per
``webhook-id``. ``Receiver`` is used by ``relay demo`` too.
"""

from __future__ import annotations

import asyncio
import collections
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from relay.cli import output, signals, waiting
from relay.domain import wording

if TYPE_CHECKING:
    from aiohttp import web

BODY_MAX: Final = 1024 * 1024
"""Bytes of a notification that are read; relay's stay under 20 kB."""

BODY_TIMEOUT: Final = 15.0
"""Seconds in which a notification has to arrive."""

REMEMBERED_MAX: Final = 10_000
"""Ids that are remembered to recognise a repetition."""

SECRET_FILE_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What came. ``problem`` says why the signature does not hold, ``None`` that it does.

    ``again`` says that this id came before, verified. ``body`` is the decoded JSON object, empty
    where there was none.
    """

    id: str | None
    body: dict[str, Any]
    problem: str | None
    again: bool


class Receiver:
    """Takes webhooks, verifies them with ``keys`` and hands each to ``told``."""

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        told: Callable[[Received], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._told = told
        self._clock = clock
        self._seen: collections.OrderedDict[str, None] = collections.OrderedDict()

    def app(self) -> web.Application:
        """The receiver as an application; every path will do."""
        from aiohttp import web

        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_post("/{path:.*}", self._receive)
        return app

    async def _receive(self, request: web.Request) -> web.Response:
        """204 for what is verified, 401 for what is not."""
        from aiohttp import web

        from relay.senders import signing

        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                raw = await request.read()
        except TimeoutError:
            return web.Response(status=408)
        webhook_id = request.headers.get("webhook-id")
        try:
            signing.verify(
                self._keys,
                webhook_id=webhook_id,
                timestamp=request.headers.get("webhook-timestamp"),
                signature=request.headers.get("webhook-signature"),
                body=raw,
                now=self._clock(),
            )
        except signing.BadSignature as exc:
            self._told(Received(id=webhook_id, body=_decode(raw), problem=str(exc), again=False))
            return web.Response(status=401, text=f"{exc}\n")
        again = webhook_id is not None and self._before(webhook_id)
        self._told(Received(id=webhook_id, body=_decode(raw), problem=None, again=again))
        return web.Response(status=204)

    def _before(self, webhook_id: str) -> bool:
        """Whether this id was seen; it is remembered from now on."""
        if webhook_id in self._seen:
            self._seen.move_to_end(webhook_id)
            return True
        self._seen[webhook_id] = None
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)
        return False


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--secret-file",
    metavar="PATH",
    help="File with the destination's signing secret (whsec_…); - reads stdin. Without it a terminal "
    "is asked, otherwise a secret is made and shown.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line.")
def listen(*, host: str, port: int, secret_file: str | None, as_json: bool) -> None:
    """Receive webhooks, verify them, print what they say.

    \b
    relay listen --secret-file pipeline.secret
    """
    given = _key(secret_file)
    key = secrets.token_bytes(32) if given is None else given

    def told(received: Received) -> None:
        if as_json:
            output.line(_as_json(received))
        else:
            show(received)

    app = Receiver([key], told=told).app()
    asyncio.run(_serve(app, host=host, port=port, made=key if given is None else None))


async def _serve(app: web.Application, *, host: str, port: int, made: bytes | None) -> None:
    """Listen until told to stop. ``made`` is a key that nobody has yet; it is shown once all is up."""
    from relay.sandbox import server
    from relay.senders import signing

    try:
        runner, url = await server.serve(app, host=host, port=port)
    except OSError as exc:
        raise output.cannot_listen(exc, host=host, port=port) from None
    try:
        if made is not None:
            output.note("A signing secret was made; give the destination this one:")
            output.note(f'  secret = "{signing.format_secret(made)}"')
        output.line(f"relay listen listening on {url}")
        await signals.stopped()
    finally:
        await runner.cleanup()


def _key(secret_file: str | None) -> bytes | None:
    """The HMAC key to verify with; ``None``: one is to be made. Raises ``output.Unusable``."""
    from relay.senders import signing

    text = ""
    if secret_file is not None:
        text = _read_secret(secret_file)
    elif sys.stdin.isatty():
        text = click.prompt(
            "signing secret (empty makes one)", hide_input=True, default="", show_default=False, err=True
        ).strip()
    if text or secret_file is not None:
        try:
            return signing.parse_secret(text)
        except signing.BadSecret as exc:
            raise output.Unusable(str(exc)) from None
    return None


def _read_secret(secret_file: str) -> str:
    try:
        if secret_file == "-":  # noqa: S105 - the name of stdin
            raw = sys.stdin.buffer.read(SECRET_FILE_MAX)
        else:
            with Path(secret_file).open("rb") as file:
                raw = file.read(SECRET_FILE_MAX)
        return raw.decode("utf-8").strip()
    except OSError as exc:
        raise output.Unusable(f"--secret-file: {exc.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise output.Unusable("--secret-file: not UTF-8") from None


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _as_json(received: Received) -> str:
    return json.dumps(
        {
            "id": received.id,
            "verified": received.problem is None,
            "problem": received.problem,
            "again": received.again,
            "body": received.body,
        }
    )


def show(received: Received) -> None:
    """Print what came, for people."""
    data = received.body.get("data")
    data = data if isinstance(data, dict) else {}
    mark = click.style("verified", fg="green")
    if received.problem is not None:
        mark = click.style(f"NOT VERIFIED: {output.clean(received.problem)}", fg="red")
    again = " (again)" if received.again else ""
    output.line(f"{output.clean(received.body.get('type'))}  {mark}{again}")
    shown = {"id": received.id, **_told(data)}
    for name, value in shown.items():
        if value is not None:
            output.line(f"  {name:<9} {output.clean(value)}")


def _told(data: Mapping[str, Any]) -> dict[str, object]:
    """What a notification says, for people; what it does not say is ``None``."""
    told: dict[str, object] = {
        "task": data.get("task_id"),
        "model": data.get("model"),
        "status": data.get("status"),
        "cost": waiting.cost(data),
    }
    links = list(wording.output_links(data.get("output")))
    told |= {"output" if i == 0 else f"output{i + 1}": link for i, link in enumerate(links[:20])}
    if data.get("error") is not None:
        told["error"] = wording.error_text(data["error"])
    if data.get("metadata") is not None:
        told["metadata"] = data["metadata"]
    return told | {"title": data.get("title"), "text": data.get("text")}
