"""Lookups in threads of their own: who waits for whom, and what is remembered of names that hang."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from relay import lookups
from tests.fakes import names as fakes


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Names]:
    made = fakes.Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answers.set()


def hanging(count: int, kind: str = "") -> list[str]:
    return [f"hang{kind}{number}{fakes.DOMAIN}" for number in range(count)]


async def start(resolver: lookups.Resolver, *hosts: str) -> list[asyncio.Task[object]]:
    """Have each looked up, and return once all are under way or waiting."""
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(resolver.resolve(host, 80)) for host in hosts]
    await asyncio.sleep(0)
    return tasks


async def until_failed(tasks: list[asyncio.Task[object]]) -> None:
    failures = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert [type(failure) for failure in failures] == [socket.gaierror] * len(tasks)


async def known_to_hang(
    resolver: lookups.Resolver, names: fakes.Names, hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have each hang once, in a world where that takes no time."""
    with monkeypatch.context() as patched:
        patched.setattr(lookups, "HUNG_AFTER", 0.0)
        names.answers.set()
        await until_failed(await start(resolver, *hosts))
    names.answers.clear()
    names.asked.clear()


async def test_a_name_is_looked_up_once_for_all_who_wait_on_whichever_port(names: fakes.Names) -> None:
    resolver = lookups.Resolver("test", threads=4)
    found = await asyncio.gather(*(resolver.resolve("a.example.test", port) for port in (80, 80, 443)))
    assert names.asked == ["a.example.test"]
    assert [(one["hostname"], one["host"], one["port"]) for [one] in found] == [
        ("a.example.test", "127.0.0.1", port) for port in (80, 80, 443)
    ]
    await resolver.resolve("a.example.test", 80)
    assert len(names.asked) == 2  # answers are kept by aiohttp, for as long as it says


async def test_who_stops_waiting_stops_nobody_else(names: fakes.Names) -> None:
    resolver = lookups.Resolver("test", threads=4)
    first, second = await start(resolver, *hanging(1), *hanging(1))
    await names.until_asked(*hanging(1))
    first.cancel()
    names.answers.set()
    await until_failed([second])
    assert len(names.asked) == 1


async def test_names_known_to_hang_hold_half_of_the_threads(
    names: fakes.Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = lookups.Resolver("test", threads=4)
    hosts = hanging(6)
    await known_to_hang(resolver, names, hosts, monkeypatch)
    tasks = await start(resolver, *hosts)
    await names.until_asked(*hosts[:2])
    for number in range(3):
        async with asyncio.timeout(30):
            await resolver.resolve(f"fine{number}.example.test", 80)
    assert [host for host in names.asked if host in hosts] == hosts[:2]
    names.answers.set()
    await until_failed(tasks)
    assert sorted(host for host in names.asked if host in hosts) == hosts


async def test_new_names_that_hang_have_the_others_wait_and_then_hold_half(
    names: fakes.Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = lookups.Resolver("test", threads=2)
    tasks = await start(resolver, *hanging(2))
    await names.until_asked(*hanging(2))
    [fine] = await start(resolver, "fine.example.test")
    assert not resolver.hung("fine.example.test")  # it waits for the others
    monkeypatch.setattr(lookups, "HUNG_AFTER", 0.0)
    names.answers.set()
    await until_failed(tasks)
    await asyncio.wait_for(fine, 30)
    assert all(resolver.hung(host) for host in hanging(2))


async def test_a_name_that_answers_quickly_again_is_forgiven(
    names: fakes.Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "HUNG_AFTER", 60.0)
    resolver = lookups.Resolver("test", threads=2)
    [host] = hanging(1)
    await known_to_hang(resolver, names, [host], monkeypatch)
    assert resolver.hung(host)
    names.answers.set()
    await until_failed(await start(resolver, host))
    assert not resolver.hung(host)


async def test_only_so_many_names_are_remembered(names: fakes.Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "HUNG_KEPT", 2)
    resolver = lookups.Resolver("test", threads=1)
    await known_to_hang(resolver, names, hanging(3), monkeypatch)
    assert [resolver.hung(host) for host in hanging(3)] == [False, True, True]


async def test_where_no_thread_can_be_started_each_lookup_says_so(
    names: fakes.Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_nothing(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = lookups.Resolver("test", threads=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_nothing)
        for host in ("a.example.test", "b.example.test"):
            with pytest.raises(OSError, match="no thread") as caught:
                await resolver.resolve(host, 80)
            assert caught.value.errno == errno.ENOMEM
    assert await resolver.resolve("a.example.test", 80)


async def test_closing_waits_for_nothing(names: fakes.Names) -> None:
    resolver = lookups.Resolver("test", threads=1)
    tasks = await start(resolver, *hanging(2))
    await names.until_asked(hanging(2)[0])
    await resolver.close()
    await asyncio.wait(tasks, timeout=30)
    assert all(task.cancelled() for task in tasks)
    assert names.asked == hanging(2)[:1]
