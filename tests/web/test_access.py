"""Which key may do and see what: the table in ``docs/access.md``, row by row, and what it says around it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.web import app as web_app
from tests.fakes import sandbox
from tests.web.conftest import ADMIN_KEY

DOCUMENT = Path(__file__).parents[2] / "docs" / "access.md"
ROW = re.compile(
    r"^\| `(?P<method>[A-Z]+) (?P<path>/\S*)` \| (?P<nobody>\S+) \| (?P<own>\S+) \| (?P<foreign>\S+) "
    r"\| (?P<admin>\S+) \|$",
    re.MULTILINE,
)
ROWS = {
    f"{row['method']} {row['path']}": row.groupdict() for row in ROW.finditer(DOCUMENT.read_text("utf-8"))
}

BODIES: dict[str, Any] = {
    "POST /api/v1/tasks": sandbox.SEED_REQUEST,
    "PUT /api/v1/tasks/{task}": {"notify": ["archive"]},
    "POST /api/v1/registrations": {"tasks": [{"task": "task_new"}]},
    "POST /api/v1/keys": {"name": "third"},
    "POST /api/v1/destinations": {"name": "second", "url": "https://example.com/hook"},
    "PATCH /api/v1/destinations/{name}": {"rate": 5},
    "POST /api/v1/redeliveries": {"all": True},
}

MADE = ("PATCH", "DELETE", "/pause", "/resume", "/rotate-secret", "/test")
"""Routes that are tried on the destination that the admin made; the others on the key's own inline one."""


@dataclass
class House:
    """A daemon with a task of one client's that ended and was told, and another client."""

    api: Any
    keys: dict[str, str | None]
    names: dict[str, str]

    async def status(self, route: str, who: str) -> int:
        """What ``who`` gets for ``route``; the body is left, it may never end."""
        method, _, path = route.partition(" ")
        names = self.names | ({"name": "made"} if any(part in route for part in MADE) else {})
        url = self.api.running.url + path.format(**names)
        key = self.keys[who]
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with self.api.session.request(method, url, json=BODIES.get(route), headers=headers) as reply:
            status: int = reply.status
            return status


@pytest.fixture
async def house(start: Any) -> AsyncIterator[House]:
    security = {"admin_key": ADMIN_KEY, "allow_inline_destinations": True}
    async with (
        sandbox.running_sandbox(stepped=True) as upstream,
        start(upstream.url, security=security) as api,
    ):
        api.upstream = upstream
        yield await _furnished(api)


async def _furnished(api: Any) -> House:
    own, _ = await api.client_key("own")
    foreign, _ = await api.client_key("foreign")
    task_id = await api.upstream.submit()
    api.upstream.finish()
    await api.call("PUT", f"/tasks/{task_id}", json={"notify": ["pipeline"]}, key=own)
    await api.receiver.wait_for(1)
    [delivery] = (await api.call("GET", "/deliveries")).body["deliveries"]
    inline = f"{api.receiver.url}/inline"
    named = await api.call(
        "PUT", f"/tasks/{task_id}", json={"notify": [inline], "statuses": ["queued"]}, key=own
    )
    [name] = [each for each in named.body["relay"]["registrations"][0]["notify"] if each != "pipeline"]
    made = {"name": "made", "url": f"{api.receiver.url}/made"}
    assert (await api.call("POST", "/destinations", json=made)).status == 201
    _, third = await api.client_key("third")
    return House(
        api=api,
        keys={"nobody": None, "foreign": foreign, "admin": ADMIN_KEY, "own": own},
        names={
            "task": task_id,
            "delivery": delivery["id"],
            "name": name,
            "key": third,
            "slug": sandbox.MODEL,
        },
    )


async def a_redelivery(api: Any) -> str:
    """One that runs, and does for a while."""
    for _ in range(3):
        await api.call("POST", "/destinations/archive/test")
    body = {"destination": "archive", "state": "delivered", "rate": 0.1}
    made = await api.call("POST", "/redeliveries", json=body)
    await api.call("POST", f"/redeliveries/{made.body['id']}/run")
    redelivery: str = made.body["id"]
    return redelivery


def test_every_route_is_in_the_table() -> None:
    assert set(ROWS) == {f"{each.method} {each.path}" for each in web_app.ENDPOINTS}


@pytest.mark.parametrize("route", list(ROWS))
async def test_the_table_is_true(house: House, route: str) -> None:
    if "{redelivery}" in route:
        house.names["redelivery"] = await a_redelivery(house.api)
    for who in ("nobody", "foreign", "admin", "own"):
        said = ROWS[route][who]
        if said != "–":
            assert await house.status(route, who) == int(said), who


# -- acceptance: two keys, one task -------------------------------------------------------------------


async def test_two_keys_that_register_one_task_see_their_own_registrations_only(api: Any) -> None:
    (one, one_id), (two, two_id) = await api.client_key("one"), await api.client_key("two")
    task_id = await api.upstream.submit()
    path = f"/tasks/{task_id}"
    first = {"notify": ["pipeline"], "metadata": {"of": "one"}}
    second = {"notify": ["archive"], "metadata": {"of": "two"}}
    assert (await api.call("PUT", path, json=first, key=one)).status == 201
    assert (await api.call("PUT", path, json=second, key=two)).status == 201
    for key, key_id, body in ((one, one_id, first), (two, two_id, second)):
        [registration] = (await api.call("GET", path, key=key)).body["relay"]["registrations"]
        assert registration == {"key": key_id, "statuses": None, **body}
        [listed] = (await api.call("GET", "/tasks", key=key)).body["tasks"]
        assert listed["relay"]["registrations"] == [registration]
    assert len((await api.call("GET", path)).body["relay"]["registrations"]) == 2
    api.upstream.finish()
    told = {request.path: request.json for request in await api.receiver.wait_for(2)}
    assert told["/hook"]["data"]["metadata"] == {"of": "one"}
    assert told["/archive"]["data"]["metadata"] == {"of": "two"}
    for key in (one, two):
        listed = (await api.call("GET", "/deliveries", key=key)).body["deliveries"]
        assert {each["destination"] for each in listed} == {"pipeline", "archive"}


async def test_dropping_one_registration_leaves_the_other_told(api: Any) -> None:
    (one, _), (two, _) = await api.client_key("one"), await api.client_key("two")
    task_id = await api.upstream.submit()
    path = f"/tasks/{task_id}"
    await api.call("PUT", path, json={"notify": ["pipeline"]}, key=one)
    await api.call("PUT", path, json={"notify": ["archive"]}, key=two)
    assert (await api.call("DELETE", path, key=one)).status == 204
    assert (await api.call("GET", path, key=one)).status == 404
    assert (await api.call("DELETE", path, key=one)).status == 404
    api.upstream.finish()
    [told] = await api.receiver.wait_for(1)
    assert told.path == "/archive"
    await api.until(path, lambda task: task["relay"]["verdict"] == "ended")
    assert len(api.receiver.requests) == 1
    assert (await api.call("GET", "/deliveries", key=one)).body["deliveries"] == []


@pytest.mark.parametrize("role", ["client", "admin"])
async def test_both_roles_may_name_every_destination_and_no_other(api: Any, role: str) -> None:
    key, _ = await api.client_key("x", role)
    good = {"notify": ["pipeline", "archive"]}
    assert (await api.call("PUT", "/tasks/a", json=good, key=key)).status == 201
    reply = await api.call("PUT", "/tasks/a", json={"notify": ["nobody"]}, key=key)
    assert (reply.status, reply.body["errors"][0]["pointer"]) == (422, "/notify/0")
    assert "configured: archive, pipeline" in reply.body["detail"]


async def test_a_foreign_delivery_is_in_no_list(house: House) -> None:
    for who, count in (("own", 1), ("foreign", 0), ("admin", 1)):
        listed = await house.api.call("GET", "/deliveries", key=house.keys[who])
        assert len(listed.body["deliveries"]) == count
        tasks = await house.api.call("GET", "/tasks", key=house.keys[who])
        assert len(tasks.body["tasks"]) == count
