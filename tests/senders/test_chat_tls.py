"""Chat workers and TLS: whom they trust, decided once for many sends."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import requests.adapters
import trustme

from relay.domain import errors
from relay.senders import apprise, apprise_jobs
from tests.fakes import receivers
from tests.senders.conftest import PATIENCE, outgoing

BODY = json.dumps({"title": "t", "text": "x"}).encode()


def prepare(surroundings: apprise_jobs.Surroundings, *, directory: Path) -> None:
    """The product's set-up, with authorities from ``directory``, and a note of each time a file is read."""
    private = directory / "private.pem"
    requests.adapters.DEFAULT_CA_BUNDLE_PATH = str(directory / "usual.pem")
    load = ssl.SSLContext.load_verify_locations

    def noted(self: ssl.SSLContext, cafile: object = None, *arguments: object, **more: object) -> None:
        with (directory / "read").open("a") as log:
            log.write(f"{cafile}\n" if cafile else "")
        load(self, cafile, *arguments, **more)  # type: ignore[arg-type]

    ssl.SSLContext.load_verify_locations = noted  # type: ignore[method-assign, assignment]
    apprise_jobs.prepare(
        dataclasses.replace(surroundings, ca_pem=private.read_text() if private.exists() else None)
    )


@contextlib.asynccontextmanager
async def opened(directory: Path, initializer: Callable[..., None]) -> AsyncIterator[apprise.ApprisePool]:
    """One worker."""
    made = apprise.ApprisePool(
        apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)),
        seats=1,
        initializer=functools.partial(initializer, directory=directory),
    )
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[apprise.ApprisePool]:
    """A worker that trusts what is in ``tmp_path``."""
    async with opened(tmp_path, prepare) as made:
        yield made


def serving(authority: trustme.CA) -> ssl.SSLContext:
    """What a receiver needs whom ``authority`` vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def reason(pool: apprise.ApprisePool, receiver: receivers.Receiver) -> str | None:
    """Why a message does not arrive; ``None`` when it does."""
    url = f"jsons://127.0.0.1:{receiver.port}/hook"
    sender = apprise.AppriseSender("chat", url=url, scheme="jsons", pool=pool, timeout=PATIENCE)
    try:
        await sender.send(outgoing(BODY))
    except errors.SendError as failure:
        return failure.reason
    return None


async def test_the_usual_authorities_are_read_once_for_many_sends(
    tmp_path: Path, pool: apprise.ApprisePool
) -> None:
    """Reading them takes longer than all the rest of a send."""
    usual, stranger = trustme.CA(), trustme.CA()
    usual.cert_pem.write_to_path(tmp_path / "usual.pem")
    async with (
        receivers.serve(ssl_context=serving(usual)) as known,
        receivers.serve(ssl_context=serving(stranger)) as unknown,
    ):
        for _ in range(3):
            assert await reason(pool, known) is None
            assert await reason(pool, unknown) == "tls_failed"
        assert (len(known.requests), len(unknown.requests)) == (3, 0)
    assert (tmp_path / "read").read_text().splitlines() == [str(tmp_path / "usual.pem")]


async def test_authorities_that_change_are_read_anew(tmp_path: Path, pool: apprise.ApprisePool) -> None:
    """As when the system's are updated under a daemon that goes on."""
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "usual.pem"
    old.cert_pem.write_to_path(file)
    async with (
        receivers.serve(ssl_context=serving(old)) as of_old,
        receivers.serve(ssl_context=serving(new)) as of_new,
    ):
        assert [await reason(pool, one) for one in (of_old, of_new)] == [None, "tls_failed"]
        new.cert_pem.write_to_path(file)
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        assert [await reason(pool, one) for one in (of_old, of_new)] == ["tls_failed", None]


def prepare_lax(surroundings: apprise_jobs.Surroundings, *, directory: Path) -> None:
    """The same with a plugin that asks for no verification."""
    send = requests.Session.send

    def lax(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        return send(self, request, **{**more, "verify": False})

    requests.Session.send = lax  # type: ignore[method-assign, assignment]
    prepare(surroundings, directory=directory)


async def test_no_plugin_switches_verification_off(tmp_path: Path) -> None:
    """No URL may, either: the argument is refused."""
    usual, stranger = trustme.CA(), trustme.CA()
    usual.cert_pem.write_to_path(tmp_path / "usual.pem")
    async with (
        opened(tmp_path, prepare_lax) as pool,
        receivers.serve(ssl_context=serving(usual)) as known,
        receivers.serve(ssl_context=serving(stranger)) as unknown,
    ):
        assert await reason(pool, known) is None
        assert await reason(pool, unknown) == "tls_failed"
        assert not unknown.requests


async def test_a_private_authority_is_trusted_beside_the_usual_ones(
    tmp_path: Path, pool: apprise.ApprisePool
) -> None:
    usual, private, stranger = trustme.CA(), trustme.CA(), trustme.CA()
    usual.cert_pem.write_to_path(tmp_path / "usual.pem")
    private.cert_pem.write_to_path(tmp_path / "private.pem")
    async with (
        receivers.serve(ssl_context=serving(usual)) as of_usual,
        receivers.serve(ssl_context=serving(private)) as of_private,
        receivers.serve(ssl_context=serving(stranger)) as of_stranger,
    ):
        for _ in range(2):
            said = [await reason(pool, one) for one in (of_usual, of_private, of_stranger)]
            assert said == [None, None, "tls_failed"]
