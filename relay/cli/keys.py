"""``relay keys``: API keys. A key is shown once, when it is made; only its hash is kept.

``create --local`` is for the first key: it opens the database itself, beside a running daemon or
without one. Everything else asks the daemon and needs an admin's key.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click

from relay.cli import client, files, options, output
from relay.domain import model


@click.group()
def keys() -> None:
    """API keys: create, list, disable, enable, remove."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(list(map(str, model.Role))),
    default=str(model.Role.CLIENT),
    show_default=True,
    help="A client sees the tasks it registered; an admin sees all and makes keys.",
)
@click.option("--local", is_flag=True, help="Write to the database itself: for the first key.")
@options.config
@click.option("--json", "as_json", is_flag=True, help='Print {"key": …, "id": …}.')
def create(*, name: str, role: str, local: bool, config_file: str | None, as_json: bool) -> None:
    """Make an API key and print it, this once.

    \b
    relay keys create ops --role admin --local
    """
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise output.Unusable("NAME: give 1 to 100 printable characters")
    if local:
        key, key_id = asyncio.run(_create_local(name, model.Role(role), config_file))
    elif config_file is not None:
        raise output.Unusable("--config belongs to --local: without it the daemon is asked")
    else:
        made = client.ask("POST", "/keys", body={"name": name, "role": role}).json()
        key, key_id = str(made.get("key")), str(made.get("id"))
    if as_json:
        output.line(json.dumps({"key": key, "id": key_id}))
        return
    output.line(output.clean(key))
    output.note(f"This is key {output.clean(key_id)} ({role}). It is not shown again; use it so:")
    output.note("  export RELAY_API_KEY=…")


async def _create_local(name: str, role: model.Role, config_file: str | None) -> tuple[str, str]:
    """Mint a key and store its hash in the database of the configuration."""
    import secrets
    import time

    from relay.domain import api_keys

    settings = files.load(files.path(config_file))
    command = f"relay keys create {shlex.quote(name)} --role {role} --local"
    files.refuse_strangers(settings, command=files.again(command, config_file))
    minted = api_keys.mint(secrets.token_bytes)
    key = model.Key(id=minted.id, name=name, role=role, enabled=True, created_at=time.time())
    async with files.opened(settings, migrate=True) as store:
        await store.create_key(key, secret_hash=minted.secret_hash)
    return minted.text, minted.id


@keys.command("ls")
@options.as_json
def ls(*, as_json: bool) -> None:
    """List the keys, without their secrets."""
    options.show_list(
        client.ask("GET", "/keys"),
        "keys",
        headers=("KEY", "NAME", "ROLE", "ENABLED", "CREATED", "LAST USED"),
        row=_row,
        as_json=as_json,
    )


def _row(key: Mapping[str, Any]) -> Sequence[object]:
    return (
        key.get("id"),
        key.get("name"),
        key.get("role"),
        key.get("enabled"),
        output.moment(key.get("created_at")),
        output.moment(key.get("last_used_at")),
    )


@keys.command("disable")
@click.argument("key_id", metavar="KEY_ID")
def disable(*, key_id: str) -> None:
    """Refuse a key from now on; what it registered is still told."""
    client.ask("POST", f"/keys/{client.quoted(key_id)}/disable")
    output.line(f"{output.clean(key_id)}  disabled")


@keys.command("enable")
@click.argument("key_id", metavar="KEY_ID")
def enable(*, key_id: str) -> None:
    """Accept a disabled key again."""
    client.ask("POST", f"/keys/{client.quoted(key_id)}/enable")
    output.line(f"{output.clean(key_id)}  enabled")


@keys.command("rm")
@click.argument("key_id", metavar="KEY_ID")
def rm(*, key_id: str) -> None:
    """Delete a key for good; what it registered is still told."""
    client.ask("DELETE", f"/keys/{client.quoted(key_id)}")
    output.line(f"{output.clean(key_id)}  deleted")
