"""``relay submit``: create a task upstream through relay, which watches it from then on.

Every submission carries an ``Idempotency-Key``, so that whoever is left without an answer can
repeat it without paying twice.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import rich_click as click

from relay.cli import client, output, waiting

TIMEOUT: Final = 120.0
"""Seconds for the answer: relay waits for the upstream (``submit_timeout``, 30 by default)."""

INPUT_MAX: Final = 64 * 1024 * 1024
"""Bytes of an input file that are read; the daemon's own limit (``body_max_bytes``) is below."""


@click.command()
@click.argument("model")
@click.option(
    "-i",
    "assignments",
    multiple=True,
    metavar="KEY=TEXT",
    help="One member of the input: KEY=text, or KEY:=json for numbers, lists and the like.",
)
@click.option(
    "--input",
    "document",
    metavar="@FILE",
    help="The whole input as JSON: @FILE, @- for stdin, or the JSON itself. -i adds to it.",
)
@click.option("--notify", multiple=True, metavar="NAME", help="A destination to tell; may be repeated.")
@click.option("--upstream", metavar="NAME", help="Which upstream; needed only where several are configured.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Handed back in every notification.")
@click.option(
    "--idempotency-key", metavar="KEY", help="Repeat a submission safely: the same key is one task."
)
@click.option("--wait", is_flag=True, help="Wait for its end; exit 0 if it succeeded, 1 if not.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def submit(
    *,
    model: str,
    assignments: Sequence[str],
    document: str | None,
    notify: Sequence[str],
    upstream: str | None,
    metadata: Sequence[str],
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a generation to MODEL and watch it.

    \b
    relay submit minimax-hailuo-2-3 -i prompt="A cat" -i duration:=6 --wait
    """
    body: dict[str, Any] = {"model": model, "input": read_input(document, assignments)}
    if notify:
        body["notify"] = list(notify)
    if upstream is not None:
        body["upstream"] = upstream
    if metadata:
        body["metadata"] = dict(_pair(text, option="--metadata") for text in metadata)
    key = idempotency_key if idempotency_key is not None else f"cli-{secrets.token_hex(16)}"
    if not (key.isascii() and key.isprintable() and key.strip()):
        raise output.Unusable("--idempotency-key: give visible ASCII characters")
    asyncio.run(_submit(body, key=key, wait=wait, as_json=as_json))


async def _submit(body: dict[str, Any], *, key: str, wait: bool, as_json: bool) -> None:
    async with client.connected() as daemon:
        answer = await _create(daemon, body, key)
        created = answer.json()
        if not wait:
            if as_json:
                output.line(answer.text.strip())
                return
            told = {name: created.get(name) for name in ("task_id", "request_id", "status")}
            output.fields(told | {"cost": waiting.cost(created)})
            return
        # A bare id is of the default upstream, as a submission that names none is.
        reference = str(created.get("task_id"))
        if "upstream" in body:
            reference = f"{body['upstream']}:{reference}"
        if not as_json:
            output.note(f"task {output.clean(reference)}, cost {output.clean(waiting.cost(created))}")
        with waiting.progress() as progress:
            ended = await waiting.until_ended(daemon, [reference], progress=progress)
    waiting.report(ended, as_json=as_json)


async def _create(daemon: client.Daemon, body: dict[str, Any], key: str) -> client.Answer:
    """Send the create; where it stays unknown what came of it, the key is shown."""
    try:
        return await daemon.ask(
            "POST", "/tasks", body=body, headers={"Idempotency-Key": key}, timeout=TIMEOUT
        )
    except (output.Unreachable, client.Refused, asyncio.CancelledError) as exc:
        if not isinstance(exc, client.Refused) or exc.status >= 500:
            output.note(f"to try again without submitting twice, add: --idempotency-key {key}")
        raise


def read_input(document: str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """The task's input from ``--input`` and ``-i``; raises ``output.Unusable``."""
    given: dict[str, Any] = {}
    if document is not None:
        value = output.read_json(_text(document), what="--input")
        if not isinstance(value, dict):
            raise output.Unusable("--input: give a JSON object")
        given = value
    return given | dict(_assignments(assignments))


def _text(document: str) -> str:
    if not document.startswith("@"):
        return document
    try:
        if document == "@-":
            raw = sys.stdin.buffer.read(INPUT_MAX + 1)
        else:
            with Path(document[1:]).open("rb") as file:
                raw = file.read(INPUT_MAX + 1)
        if len(raw) > INPUT_MAX:
            raise output.Unusable(f"--input: over {INPUT_MAX} bytes")
        return raw.decode("utf-8")
    except OSError as exc:
        raise output.Unusable(f"--input: {document[1:]}: {exc.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise output.Unusable(f"--input: {document[1:]}: not UTF-8") from None


def _assignments(texts: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for text in texts:
        name, value = _pair(text, option="-i")
        if name.endswith(":"):
            yield name[:-1], output.read_json(value, what=f"-i {name[:-1]}")
        else:
            yield name, value


def _pair(text: str, *, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip(":"):
        # What was given is not repeated: it may be a secret that was meant for elsewhere.
        raise output.Unusable(f"{option}: give KEY=VALUE")
    return name, value
