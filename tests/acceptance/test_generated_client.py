"""A client made from /openapi.json alone does everything that the command line does.

The client knows nothing of relay but how to read an OpenAPI document; operations are called by
their ids. Each answer has to be documented and to fit its schema.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
import rich_click as click

from relay import cli
from tests import harness
from tests.fakes import receivers, sandbox

OPERATIONS = {
    "submit": {"tasks_submit", "tasks_show"},
    "watch": {"tasks_register", "tasks_show", "tasks_list"},
    "tasks ls": {"tasks_list"},
    "tasks show": {"tasks_show"},
    "tasks events": {"tasks_events"},
    "tasks stop": {"tasks_unregister"},
    "destinations ls": {"destinations_list"},
    "destinations show": {"destinations_show"},
    "destinations add": {"destinations_create"},
    "destinations change": {"destinations_change"},
    "destinations test": {"destinations_test"},
    "destinations pause": {"destinations_pause"},
    "destinations resume": {"destinations_resume"},
    "destinations rotate-secret": {"destinations_rotate_secret"},
    "destinations public-key": {"destinations_public_key"},
    "destinations rm": {"destinations_delete"},
    "deliveries ls": {"deliveries_list"},
    "deliveries show": {"deliveries_show"},
    "deliveries redeliver": {
        "deliveries_redeliver",
        "redeliveries_create",
        "redeliveries_run",
        "redeliveries_show",
        "redeliveries_cancel",
    },
    "redeliveries create": {"redeliveries_create"},
    "redeliveries ls": {"redeliveries_list"},
    "redeliveries show": {"redeliveries_show"},
    "redeliveries run": {"redeliveries_run", "redeliveries_show"},
    "redeliveries pause": {"redeliveries_pause"},
    "redeliveries cancel": {"redeliveries_cancel"},
    "keys create": {"keys_create"},
    "keys ls": {"keys_list"},
    "keys disable": {"keys_disable"},
    "keys enable": {"keys_enable"},
    "keys rm": {"keys_delete"},
}
"""What each command asks of the daemon."""

ALONE = {"serve", "demo", "sandbox", "listen", "migrate", "backup", "config"}
"""Commands that are no clients of the daemon."""


class Client:
    """Whatever the document describes, as ``client.call(operation, …)``."""

    def __init__(self, url: str, key: str, document: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.session = session
        self.document = document
        server = urllib.parse.urljoin(f"{url}/openapi.json", document["servers"][0]["url"])
        self.server = server.rstrip("/")
        self.key = key
        self.called: set[str] = set()
        self.operations = {
            told["operationId"]: (method.upper(), path, told)
            for path, methods in document["paths"].items()
            for method, told in methods.items()
        }

    @classmethod
    async def read(cls, url: str, key: str, session: aiohttp.ClientSession) -> Client:
        """A client of the API that is described at ``url``."""
        async with session.get(f"{url}/openapi.json") as answer:
            return cls(url, key, await answer.json(), session)

    async def call(self, operation: str, body: Any = None, **arguments: Any) -> tuple[int, Any]:
        """Status and body. Arguments are the parameters, ``-`` written as ``_``."""
        method, path, told = self.operations[operation]
        query, headers = {}, {}
        for parameter in told.get("parameters", ()):
            value = arguments.pop(parameter["name"].replace("-", "_"), None)
            if value is None:
                assert not parameter["required"], parameter["name"]
            elif parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", urllib.parse.quote(str(value), safe=":~"))
            else:
                (query if parameter["in"] == "query" else headers)[parameter["name"]] = str(value)
        assert not arguments, f"{operation} does not describe {arguments}"
        security = told.get("security", self.document["security"])
        for name in (name for each in security for name in each):
            assert self.document["components"]["securitySchemes"][name]["scheme"] == "bearer"
            headers["Authorization"] = f"Bearer {self.key}"
        data = None
        if body is not None:
            [(kind, media)] = told["requestBody"]["content"].items()
            self.fits(media["schema"], body)
            headers["Content-Type"] = kind
            data = json.dumps(body).encode()
        url = self.server + path
        async with self.session.request(method, url, params=query, headers=headers, data=data) as answer:
            self.called.add(operation)
            responses = told["responses"]
            response = self.resolved(
                responses.get(str(answer.status)) or responses[f"{answer.status // 100}XX"]
            )
            if "content" not in response:
                assert not await answer.read()
                return answer.status, None
            decoded = await answer.json(content_type=None)
            self.fits(response["content"][answer.content_type]["schema"], decoded)
            return answer.status, decoded

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """What a reference refers to."""
        found: Any = self.document
        if "$ref" not in node:
            return node
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)

    def fits(self, schema: dict[str, Any], value: Any) -> None:
        """Raises where ``value`` is not what the document says."""
        jsonschema_rs.Draft202012Validator({**schema, "components": self.document["components"]}).validate(
            value
        )


def commands(group: click.RichGroup, prefix: str = "") -> Iterator[str]:
    """The commands that do something, by the words that call them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not prefix and name in ALONE:
            continue
        if isinstance(command, click.RichGroup):
            yield from commands(command, f"{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_that_asks_the_daemon_is_in_the_table() -> None:
    assert set(commands(cli.root)) == OPERATIONS.keys()


async def test_it_does_everything(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=400) as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        admin = await Client.read(relay.url, harness.ADMIN_KEY, session)
        key = await keys(admin)
        client = await Client.read(relay.url, key["key"], session)
        task = await tasks(client, elsewhere=await upstream.submit())
        await hook.wait_for(2)
        await relay.until_verdict(task, "ended")
        await relay.until_state("delivered")
        await deliveries(client, task)
        await destinations(admin, f"{hook.url}/made")
        await redeliveries(admin)
        assert (await client.call("tasks_unregister", task=task))[0] == 204
        assert (await client.call("tasks_show", task=task))[0] == 404
        await end_of(admin, client, key["id"])
        assert admin.called | client.called >= set().union(*OPERATIONS.values())


async def keys(admin: Client) -> dict[str, Any]:
    """Made, listed; the new key."""
    status, made = await admin.call("keys_create", {"name": "backend"})
    assert status == 201
    assert made["role"] == "client"
    _, listed = await admin.call("keys_list")
    assert [each["id"] for each in listed["keys"]] == [made["id"]]
    return dict(made)


async def tasks(client: Client, *, elsewhere: str) -> str:
    """Submitted once, however often; registered; read. The submitted one."""
    wanted = {"model": sandbox.MODEL, "input": {"prompt": sandbox.PROMPT}, "notify": ["pipeline"]}
    status, created = await client.call("tasks_submit", wanted, Idempotency_Key="order-1")
    again, same = await client.call("tasks_submit", wanted, Idempotency_Key="order-1")
    assert (status, again) == (201, 200)
    assert created == same
    refused, problem = await client.call("tasks_submit", {**wanted, "model": "no-such-model"})
    assert (refused, problem["errors"][0]["pointer"]) == (422, "/model")
    status, _ = await client.call("tasks_register", {"notify": ["pipeline"]}, task=elsewhere)
    assert status == 201
    first, page = await client.call("tasks_list", limit=1)
    _, rest = await client.call("tasks_list", limit=1, cursor=page["next_cursor"])
    assert first == 200
    assert {page["tasks"][0]["task_id"], rest["tasks"][0]["task_id"]} == {created["task_id"], elsewhere}
    return str(created["task_id"])


async def deliveries(client: Client, task: str) -> None:
    """What was told of the task, and telling it again; what happened to it."""
    _, shown = await client.call("tasks_show", task=task)
    assert shown["status"] == "succeeded"
    _, told = await client.call("tasks_events", task=task)
    assert told["events"][-1]["status"] == "succeeded"
    _, nothing = await client.call("tasks_events", task=task, cursor=told["next_cursor"])
    assert nothing["events"] == []
    _, listed = await client.call("deliveries_list", task=task)
    [delivery] = listed["deliveries"]
    _, whole = await client.call("deliveries_show", delivery=delivery["id"])
    assert len(whole["attempts"]) == whole["attempts_made"]
    status, _ = await client.call("deliveries_redeliver", delivery=delivery["id"])
    assert status == 202


async def destinations(admin: Client, url: str) -> None:
    """Who can be told, and whether it works; one made, changed, held and taken away."""
    _, listed = await admin.call("destinations_list")
    [name] = [each["name"] for each in listed["destinations"]]
    _, shown = await admin.call("destinations_show", name=name)
    assert shown == listed["destinations"][0]
    status, tested = await admin.call("destinations_test", name=name)
    assert (status, tested["state"]) == (200, "delivered")
    status, made = await admin.call("destinations_create", {"name": "made", "url": url, "rate": 5})
    assert (status, made["secret"][:6]) == (201, "whsec_")
    assert (await admin.call("destinations_create", {"name": "made", "url": url}))[0] == 409
    _, changed = await admin.call("destinations_change", {"rate": None, "schedule": [0, 5]}, name="made")
    assert (changed["rate"], changed["schedule"]) == (None, [0, 5])
    _, paused = await admin.call("destinations_pause", name="made")
    _, resumed = await admin.call("destinations_resume", {"which": "newest"}, name="made")
    assert (paused["state"], resumed["state"], resumed["released"]) == ("paused", "active", 0)
    _, rotated = await admin.call("destinations_rotate_secret", {"overlap": 60}, name="made")
    assert rotated["secret"] != made["secret"]
    assert (await admin.call("destinations_public_key", name="made"))[0] == 404
    key = "whsk_" + base64.b64encode(b"k" * 32).decode()
    await admin.call("destinations_change", {"signing_key": key}, name="made")
    _, public = await admin.call("destinations_public_key", name="made")
    assert public["public_key"].startswith("whpk_")
    assert (await admin.call("destinations_delete", name="made"))[0] == 204


async def redeliveries(admin: Client) -> None:
    """Many told again: looked at, run, paused, gone on with, ended."""
    wanted = {"destination": "pipeline", "state": "delivered", "rate": 0.1}
    status, made = await admin.call("redeliveries_create", wanted)
    assert (status, made["state"]) == (201, "preview")
    assert made["count"] == len(made["sample"]) > 1
    one = made["id"]
    for operation, body, state in (
        ("redeliveries_run", {"rate": 0.2}, "running"),
        ("redeliveries_pause", None, "paused"),
        ("redeliveries_run", None, "running"),
        ("redeliveries_cancel", None, "cancelled"),
    ):
        status, changed = await admin.call(operation, body, redelivery=one)
        assert (status, changed["state"]) == (200, state)
    assert (await admin.call("redeliveries_run", redelivery=one))[0] == 409
    _, shown = await admin.call("redeliveries_show", redelivery=one)
    _, listed = await admin.call("redeliveries_list", state="cancelled")
    assert listed["redeliveries"] == [shown]


async def end_of(admin: Client, client: Client, key: str) -> None:
    """Disabled, enabled and deleted."""
    for operation, status in (("keys_disable", 401), ("keys_enable", 200)):
        assert (await admin.call(operation, key=key))[0] == 200
        assert (await client.call("tasks_list"))[0] == status
    assert (await admin.call("keys_delete", key=key))[0] == 204
    assert (await client.call("tasks_list"))[0] == 401


async def test_what_is_not_described_cannot_be_asked(tmp_path: Path) -> None:
    async with (
        sandbox.running_sandbox() as upstream,
        harness.running(tmp_path, upstream) as relay,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        client = await Client.read(relay.url, harness.ADMIN_KEY, session)
        with pytest.raises(AssertionError, match="does not describe"):
            await client.call("tasks_list", page=2)
