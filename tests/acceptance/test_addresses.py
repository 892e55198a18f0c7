"""No way in and no way out reaches an address that may not be reached, however it is spelled.

One table (``tests/fakes/spellings.py``) is run over every path: each path says for each URL what
became of it, and the rule's name must be in that. Nothing but loopback is dialled: what relay would
dial is recorded right behind its own judgement (``tests/fakes/dialling.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.domain import errors
from relay.senders import base, judging, opening
from relay.senders.network import Rule
from tests import harness
from tests.fakes import dialling, receivers
from tests.fakes import sandbox as sandboxes
from tests.fakes import spellings as table
from tests.senders import channels
from tests.senders.conftest import outgoing

Outcomes = dict[str, str]
"""By URL, what was said of it."""

EVERYTHING = ("0.0.0.0/0", "::/0")
PATIENCE = 60.0


@dataclass
class Place:
    """Where a path is tried: what may be dialled, what would be, and room for files."""

    net: dialling.Net
    opened: tuple[str, ...]
    directory: Path

    @property
    def network(self) -> opening.NetworkConfig:
        return opening.NetworkConfig(allow_private=self.opened)


def named(urls: Iterable[str]) -> dict[str, str]:
    """The URL of each destination, by a name made up for it."""
    return {f"d{number}": url for number, url in enumerate(urls)}


def secrets(url: str) -> tuple[str, ...]:
    return (harness.SECRET,) if url.startswith("http") else ()


# -- the paths: a new one is a function and a line in PATHS ---------------------------------------------


async def check(urls: list[str], place: Place) -> Outcomes:
    """``relay config check``: without resolving."""
    return await _judge(urls, place, resolve=False)


async def check_url(urls: list[str], place: Place) -> Outcomes:
    """``relay config check-url``."""
    return await _judge(urls, place, resolve=True)


async def _judge(urls: list[str], place: Place, *, resolve: bool) -> Outcomes:
    judged = await judging.judge_all(
        {url: url for url in urls}, place.network, resolve=resolve, ways=place.net.ways
    )
    return {url: judgement.problem or judgement.verdict.value for url, judgement in judged.items()}


async def send(urls: list[str], place: Place) -> Outcomes:
    """The senders themselves."""
    configs = [
        base.DestinationSpec(name=name, url=url, secrets=secrets(url)) for name, url in named(urls).items()
    ]
    senders = opening.make_senders(place.network, ways=place.net.ways)
    opened = {each.sender.name: each.sender for each in await senders.open(*configs)}

    async def one(config: base.DestinationSpec) -> str:
        body = channels.WEBHOOK_BODY if config.secrets else channels.BODY
        try:
            await opened[config.name].send(outgoing(body))
        except errors.SendError as failure:
            return f"{failure.reason}: {failure}"
        return "delivered"

    try:
        return {config.url: await one(config) for config in configs}
    finally:
        await senders.aclose()


async def try_endpoint(urls: list[str], place: Place) -> Outcomes:
    """``POST /destinations/{name}/test`` of the daemon."""
    async with daemon(urls, place) as relay:
        replies = [await relay.call("POST", f"/destinations/{name}/test") for name in named(urls)]
    assert all(status == 200 for status, _ in replies)
    return _said([reply for _, reply in replies], urls, attempt=1)


async def deliver(urls: list[str], place: Place) -> Outcomes:
    """The end of a task, told by the daemon."""
    async with daemon(urls, place) as relay:
        return _said(await _told(relay, urls), urls, attempt=1)


async def redeliver(urls: list[str], place: Place) -> Outcomes:
    """The same, asked for once more."""
    async with daemon(urls, place) as relay:
        told = [delivery["id"] for delivery in await _told(relay, urls)]
        for delivery_id in told:
            status, answer = await relay.call("POST", f"/deliveries/{delivery_id}/redeliver")
            assert status < 300, answer
        return _said(await _attempted(relay, told, attempts=2), urls, attempt=2)


@contextlib.asynccontextmanager
async def daemon(urls: list[str], place: Place) -> AsyncIterator[harness.Relay]:
    """A daemon that tells every task to everyone, once."""
    destinations = {
        name: {"url": url, "schedule": [0.0]} | ({"secret": secrets(url)[0]} if secrets(url) else {})
        for name, url in named(urls).items()
    }
    async with (
        sandboxes.running_sandbox(speed=1000) as upstream,
        harness.running(
            place.directory,
            upstream,
            destinations,
            routes=[{"notify": list(destinations)}] if destinations else [],
            network={"allow_private": list(place.opened)},
            ways=place.net.ways,
        ) as relay,
    ):
        yield relay


async def _told(relay: harness.Relay, urls: list[str]) -> list[dict[str, Any]]:
    """One attempted delivery for each URL."""
    await relay.submit()
    async with asyncio.timeout(PATIENCE):
        while len(found := await _listed(relay)) < len(urls):
            await asyncio.sleep(0.05)
    return await _attempted(relay, found, attempts=1)


async def _listed(relay: harness.Relay) -> list[str]:
    """The ids of all deliveries."""
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        status, page = await relay.call("GET", "/deliveries", params={"limit": "100", **after})
        assert status == 200, page
        found += [delivery["id"] for delivery in page["deliveries"]]
        if page["next_cursor"] is None:
            return found
        after = {"cursor": page["next_cursor"]}


async def _attempted(relay: harness.Relay, ids: Iterable[str], *, attempts: int) -> list[dict[str, Any]]:
    found = []
    for delivery_id in ids:
        async with asyncio.timeout(PATIENCE):
            while len((delivery := await relay.delivery(delivery_id))["attempts"]) < attempts:
                await asyncio.sleep(0.05)
        found.append(delivery)
    return found


def _said(deliveries: Iterable[dict[str, Any]], urls: list[str], *, attempt: int) -> Outcomes:
    names = named(urls)
    outcomes = {}
    for delivery in deliveries:
        [one] = [one for one in delivery["attempts"] if one["number"] == attempt]
        outcomes[names[delivery["destination"]]] = f"{one['reason'] or one['outcome']}: {one['detail']}"
    return outcomes


SAYS = {"config check": check, "config check-url": check_url}
"""Ways in. A name is judged where it is resolved; other ways in take it and leave it to the dialling."""

TELLS = {"send": send, "test": try_endpoint, "deliver": deliver, "redeliver": redeliver}
"""Ways out, of what a way in took."""

RESOLVING = {"config check-url", *TELLS}
"""Paths that know where names lead."""

PATHS = SAYS | TELLS


def rule_in(said: str) -> str:
    """The rule that was named."""
    found = re.search(r"rule ([a-z0-9_]+)", said)
    return found[1] if found else said


def expected(case: table.Case, path: str) -> str | None:
    """The rule that ``path`` must name, or ``None`` where it has nothing against it."""
    if case.rule is table.UNREADABLE and not case.usable:
        return case.rule
    return case.rule if path in RESOLVING or not case.by_name else None


@pytest.fixture
async def receiver() -> AsyncIterator[receivers.Receiver]:
    """Listens where the spellings of loopback lead."""
    async with receivers.serve() as served:
        yield served


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where nothing is opened."""
    return Place(dialling.Net(tmp_path), (), tmp_path)


@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_gets_anywhere(path: str, place: Place, receiver: receivers.Receiver) -> None:
    cases = table.cases(table.SPELLINGS, port=receiver.port)
    tried = [case for case in cases if case.usable or path in SAYS]
    outcomes = await PATHS[path]([case.url for case in tried], place)
    assert {case.url: rule_in(outcomes[case.url]) for case in tried if expected(case, path)} == {
        case.url: expected(case, path) for case in tried if expected(case, path)
    }
    assert {outcomes[case.url] for case in tried if not expected(case, path)} <= {"allowed"}
    assert not any("secret" in said for said in outcomes.values())
    assert place.net.dialled() == []
    assert receiver.connections == 0


CHATS_MADE = 4
"""Chat URLs that are put to the API, each for another rule: the other paths try them all."""


async def test_no_spelling_becomes_a_destination(place: Place, receiver: receivers.Receiver) -> None:
    """``POST /destinations``: every webhook, and some chat URLs, each of which starts a worker."""
    cases = table.cases(table.SPELLINGS, port=receiver.port)
    chats = {case.rule: case for case in cases if not secrets(case.url) and expected(case, "create")}
    tried = [case for case in cases if secrets(case.url) and expected(case, "create")] + [*chats.values()][
        :CHATS_MADE
    ]
    said: Outcomes = {}
    async with daemon([], place) as relay:
        for case in tried:
            body = {"name": "made", "url": case.url}
            status, problem = await relay.call("POST", "/destinations", json=body)
            assert (status, problem["errors"][0]["pointer"]) == (422, "/url"), problem
            said[case.url] = problem["detail"]
        _, listed = await relay.call("GET", "/destinations")
    assert listed["destinations"] == []
    assert {case.url: rule_in(said[case.url]) for case in tried if case.rule is not table.UNREADABLE} == {
        case.url: case.rule for case in tried if case.rule is not table.UNREADABLE
    }
    assert not any("secret" in text for text in said.values())
    assert place.net.dialled() == []


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_forbidden_stays_so_with_everything_opened(path: str, place: Place) -> None:
    place.opened = EVERYTHING
    cases = [c for c in table.cases(table.SPELLINGS, port=80) if c.usable and not c.rule.openable]
    outcomes = await PATHS[path]([case.url for case in cases], place)
    judged = [case for case in cases if expected(case, path)]
    assert {c.url: rule_in(outcomes[c.url]) for c in judged} == {c.url: c.rule.value for c in judged}
    assert place.net.dialled() == []


@pytest.mark.parametrize("path", TELLS)
async def test_a_name_that_changes_after_it_was_checked(
    path: str, place: Place, receiver: receivers.Receiver
) -> None:
    urls = [f"{scheme}://{table.REBINDING}:{receiver.port}/secret" for scheme in ("http", "json")]
    assert await check_url(urls[:1], place) == {urls[0]: "allowed"}
    outcomes = await TELLS[path](urls, place)
    assert {rule_in(said) for said in outcomes.values()} == {"loopback"}
    assert place.net.dialled() == []


@pytest.mark.parametrize("path", TELLS)
async def test_redirects_are_named_and_not_followed(
    path: str, place: Place, receiver: receivers.Receiver
) -> None:
    place.opened = tuple(harness.LOOPBACK)
    urls = [f"{scheme}://127.0.0.1:{receiver.port}/secret" for scheme in ("http", "json")]
    urls = [f"{url}/{number}" for number, _ in enumerate(table.REDIRECTS) for url in urls]
    answers = [receivers.Answer(status=307, headers={"Location": one}) for one in table.REDIRECTS]
    receiver.script = answers * 4
    outcomes = await TELLS[path](urls, place)
    assert all(said.startswith("redirect:") for said in outcomes.values()), outcomes
    assert all(request.path.startswith("/secret/") for request in receiver.requests)
    assert len(receiver.requests) == len(urls) * (2 if path == "redeliver" else 1)
    assert set(place.net.dialled()) == {"127.0.0.1"}


@pytest.mark.parametrize("path", TELLS)
async def test_what_is_opened_or_public_is_dialled_where_it_was_judged(
    path: str, place: Place, receiver: receivers.Receiver
) -> None:
    """The counterpart: the recorders do see what is dialled, and the opened address works."""
    place.opened = tuple(harness.LOOPBACK)
    receiver.answer = receivers.Answer(status=200)
    urls = [
        f"{scheme}://{host}:{receiver.port}/secret"
        for host in ("127.0.0.1", "loopback.test", "public.test")
        for scheme in ("http", "json")
    ]
    outcomes = await TELLS[path](urls, place)
    assert [outcomes[url].partition(":")[0] for url in urls] == ["delivered"] * 4 + ["no_route"] * 2
    times = 2 if path == "redeliver" else 1
    # A webhook's connection is kept for the next one.
    assert sorted(place.net.dialled()) == ["127.0.0.1"] * (2 + 2 * times) + ["8.8.8.8"] * 2 * times


def test_the_table_is_long_enough() -> None:
    assert len({spelling.host for spelling in table.SPELLINGS}) == len(table.SPELLINGS) >= 60
    assert {spelling.rule for spelling in table.SPELLINGS} == set(Rule), "every rule is in it"
