"""The registry in a whole daemon: destinations that come, change, pause and go, and what they are owed."""

from __future__ import annotations

import base64
import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric import ed25519

from relay import sealing
from relay.domain import api_keys, errors, model
from relay.engine import definitions, destinations
from relay.store import destinations as stored
from relay.store import opening, sqlite
from tests import harness
from tests.fakes import receivers, sandbox

FAST = {"failing": {"resume_rate": 1000.0}}
RATHER_SECRET = "rather-secret-part-of-a-url"
DAY = 86400.0


@contextlib.asynccontextmanager
async def daemon(
    tmp_path: Path, configured: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[harness.Relay, destinations.Destinations]]:
    """A daemon with its own quick upstream, and its registry."""
    async with (
        sandbox.running_sandbox(speed=1000) as upstream,
        harness.running(tmp_path, upstream, configured or {}, **{**FAST, **options}) as relay,
    ):
        yield relay, relay.running.services.destinations


@pytest.fixture
async def hook() -> AsyncIterator[receivers.Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


def url(hook: receivers.Receiver, path: str = RATHER_SECRET) -> str:
    return f"{hook.url}/{path}"


def verify(request: receivers.Request, *secrets: str) -> None:
    for secret in secrets:
        standardwebhooks.Webhook(secret).verify(request.body, request.headers)


def in_files(directory: Path, *texts: str) -> list[str]:
    """Those of ``texts`` that stand in a file of the database."""
    content = b"".join(file.read_bytes() for file in directory.glob("relay.db*") if file.suffix != ".key")
    assert content
    return [text for text in texts if text.encode() in content]


# -- made ---------------------------------------------------------------------------------------------


async def test_a_made_destination_is_told_and_survives_a_restart(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (relay, registry):
        members = {"url": url(hook), "headers": {"X-Token": "secret-token"}, "statuses": ["succeeded"]}
        made = await registry.create("made", {**members, "schedule": [0, 1], "rate": 50.0})
        assert made.secret is not None
        assert made.known.source is model.Source.API
        assert (made.known.headers, made.known.signatures) == (("X-Token",), ("v1",))
        await relay.submit(notify=["made"])
        [first] = await hook.wait_for(1)
        verify(first, made.secret)
        assert first.headers["x-token"] == "secret-token"
        shown = repr(made.known) + repr(registry.get("made"))
        assert all(text not in shown for text in (RATHER_SECRET, made.secret, "secret-token"))
    secrets = (RATHER_SECRET, made.secret.removeprefix("whsec_"), "secret-token")
    assert in_files(tmp_path, "made", *secrets) == ["made"]
    assert (tmp_path / "relay.db.key").stat().st_mode & 0o777 == 0o600
    async with daemon(tmp_path) as (relay, registry):
        again = registry.get("made")
        assert (again.options, again.created_at) == (made.known.options, made.known.created_at)
        assert again.options.schedule == (0, 1)
        await relay.submit(notify=["made"])
        verify((await hook.wait_for(2))[1], made.secret)


async def test_a_secret_of_ones_own_is_used_and_not_repeated(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (relay, registry):
        made = await registry.create("made", {"url": url(hook), "secret": harness.SECRET})
        assert made.secret is None
        await relay.submit(notify=["made"])
        verify((await hook.wait_for(1))[0], harness.SECRET)


@pytest.mark.parametrize(
    ("name", "members", "pointer"),
    [
        ("Made", {}, "/name"),
        ("m" * 64, {}, "/name"),
        ("inline_mine", {}, "/name"),
        ("made", {"url": None}, "/url"),
        ("made", {"url": "no url"}, "/url"),
        ("made", {"url": "slak://a/b/c"}, "/url"),
        ("made", {"url": "syslog://localhost"}, "/url"),
        ("made", {"secret": "short"}, "/secret"),
        ("made", {"signing_key": "whsk_short"}, "/signing_key"),
        ("made", {"headers": {"Webhook-Id": "x"}}, "/headers"),
        ("made", {"url": "ntfy://127.0.0.1/topic", "secret": harness.SECRET}, "/secret"),
    ],
)
async def test_what_is_wrong_is_said_at_its_place_and_nothing_is_made(
    tmp_path: Path, name: str, members: dict[str, Any], pointer: str
) -> None:
    async with daemon(tmp_path) as (_, registry):
        with pytest.raises(errors.RequestRefused) as caught:
            await registry.create(name, {"url": f"http://127.0.0.1:9/{RATHER_SECRET}", **members})
        assert caught.value.pointer == pointer
        assert RATHER_SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert registry.all() == []
    assert not (tmp_path / "relay.db.key").exists()


async def test_there_are_only_so_many(
    tmp_path: Path, hook: receivers.Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destinations, "API_MAX", 1)
    monkeypatch.setattr(destinations, "INLINE_MAX", 1)
    async with daemon(tmp_path) as (_, registry):
        await registry.create("one", {"url": url(hook)})
        await registry.inline("key_a", url(hook))
        with pytest.raises(errors.RequestRefused, match="the most there may be"):
            await registry.create("two", {"url": url(hook)})
        with pytest.raises(errors.RequestRefused, match="the most there may be"):
            await registry.inline("key_a", url(hook, "two"))


async def test_those_of_the_configuration_are_read_only_and_never_stored(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    configured = {"pipeline": {**harness.webhook(hook), "url": url(hook)}}
    async with daemon(tmp_path, configured) as (relay, registry):
        for change in (
            registry.change("pipeline", {"rate": 1.0}),
            registry.delete("pipeline"),
            registry.rotate_secret("pipeline", overlap=0),
        ):
            with pytest.raises(errors.DestinationReadOnly, match="configuration file"):
                await change
        with pytest.raises(errors.DestinationExists):
            await registry.create("pipeline", {"url": url(hook)})
        for unknown in (registry.change("x", {}), registry.delete("x"), registry.pause("x")):
            with pytest.raises(KeyError):
                await unknown
        await relay.submit(notify=["pipeline"])
        await hook.wait_for(1)
    assert in_files(tmp_path, RATHER_SECRET) == []


# -- changed ------------------------------------------------------------------------------------------


async def test_a_change_holds_for_what_is_sent_next(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path) as (relay, registry):
        members = {"url": url(hook, "old"), "secret": harness.SECRET, "timeout": 30.0, "rate": 9.0}
        await registry.create("made", {**members, "headers": {"X-Old": "1"}})
        hook.script = [receivers.Answer(manner=receivers.Manner.HANG)]
        await relay.submit(notify=["made"])
        await hook.wait_for(1)  # in flight
        changed = await registry.change(
            "made", {"url": url(hook, "new"), "headers": {"X-New": "2"}, "rate": None}
        )
        assert (changed.options.rate, changed.options.timeout) == (None, 30.0)
        await relay.submit(notify=["made"], prompt="another")
        _, second = await hook.wait_for(2)
        assert (second.path, second.headers.get("x-new"), second.headers.get("x-old")) == ("/new", "2", None)
        verify(second, harness.SECRET)
        assert hook.closed_by_peer == 0  # the first one goes on as it began


async def test_a_refused_change_changes_nothing(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path) as (relay, registry):
        before = (await registry.create("made", {"url": url(hook)})).known
        for members in ({"url": "no url"}, {"url": None}, {"headers": {"Host": "x"}, "rate": 1.0}):
            with pytest.raises(errors.RequestRefused):
                await registry.change("made", members)
        assert registry.get("made") == before
        await relay.submit(notify=["made"])
        await hook.wait_for(1)


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_while(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (relay, registry):
        await registry.create("made", {"url": url(hook), "secret": harness.SECRET})
        rotated = await registry.rotate_secret("made", overlap=3600.0)
        assert rotated.old_until is not None
        await relay.submit(notify=["made"])
        verify((await hook.wait_for(1))[0], rotated.secret, harness.SECRET)
        signatures = hook.requests[0].headers["webhook-signature"].split()
        assert len(signatures) == 2
        relay.advance(3601)
        await registry.care()
        await relay.submit(notify=["made"], prompt="later")
        last = (await hook.wait_for(2))[1]
        assert len(last.headers["webhook-signature"].split()) == 1
        other = await registry.rotate_secret("made", overlap=0.0)
        assert other.old_until is None
        for _ in range(destinations.SECRETS_MAX - 1):
            await registry.rotate_secret("made", overlap=60.0)
        with pytest.raises(errors.RequestRefused, match="secrets sign already"):
            await registry.rotate_secret("made", overlap=60.0)
        for overlap in (-1.0, float("nan"), 1e9):
            with pytest.raises(errors.RequestRefused) as caught:
                await registry.rotate_secret("made", overlap=overlap)
            assert caught.value.pointer == "/overlap"


async def test_a_chat_service_has_no_secret_to_rotate(tmp_path: Path) -> None:
    async with daemon(tmp_path) as (_, registry):
        made = await registry.create("chat", {"url": "ntfy://127.0.0.1/topic"})
        assert (made.secret, made.known.signatures) == (None, ())
        with pytest.raises(errors.RequestRefused, match="only webhooks are signed"):
            await registry.rotate_secret("chat", overlap=0.0)


# -- gone and back ------------------------------------------------------------------------------------


async def test_what_a_deleted_one_is_owed_is_held_until_it_is_back(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (relay, registry):
        await registry.create("made", {"url": url(hook), "schedule": [0, 600]})
        hook.answer = receivers.Answer(status=500)
        await relay.submit(notify=["made"])
        await relay.until_state("pending", reason="http_500")
        await registry.delete("made")
        [held] = await relay.until_state("held")
        assert held["reason"] == "destination_missing"
        hook.answer = receivers.Answer()
        await registry.create("made", {"url": url(hook)})
        told = await hook.wait_for(2)
        assert told[1].headers["webhook-id"] == held["id"]


# -- paused -------------------------------------------------------------------------------------------


async def test_a_pause_survives_a_restart_and_resuming_tells_what_was_held(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    configured = {"pipeline": harness.webhook(hook)}
    async with daemon(tmp_path, configured) as (relay, registry):
        paused = await registry.pause("pipeline")
        assert paused.health.paused_at is not None
        assert (await registry.pause("pipeline")).health == paused.health
        await relay.submit(notify=["pipeline"])
        [held] = await relay.until_state("held")
        assert held["reason"] == "paused"
    async with daemon(tmp_path, configured) as (relay, registry):
        assert registry.get("pipeline").health == paused.health
        known, resumed = await registry.resume("pipeline", stored.Which.ALL)
        assert known.health.paused_at is None
        assert resumed == stored.Resumed(released=1)
        [told] = await hook.wait_for(1)
        assert told.headers["webhook-id"] == held["id"]


async def test_what_a_former_one_left_behind_does_not_keep_one_from_pausing(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path, {"pipeline": harness.webhook(hook)}) as (relay, registry):
        store = relay.running.services.store
        await store.resume(
            model.Health(destination="pipeline", version=7), which=stored.Which.ALL, now=0.0, rate=1.0
        )
        assert (await registry.pause("pipeline")).health.paused_at is not None
        await store.pause(model.Health(destination="pipeline", version=20, paused_at=1.0))
        known, _ = await registry.resume("pipeline", stored.Which.NONE)
        assert known.health.hold_reason is None
        assert [health.hold_reason for health in await store.healths()] == [None]


async def test_what_cannot_be_stored_is_not_done(
    tmp_path: Path, hook: receivers.Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = tuple(pragma for pragma in sqlite._PRAGMAS if "busy_timeout" not in pragma)
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("PRAGMA busy_timeout = 20", *impatient))
    async with daemon(tmp_path) as (relay, registry):
        await registry.create("active", {"url": url(hook)})
        await registry.create("paused", {"url": url(hook)})
        await registry.pause("paused")
        before = registry.all()
        with contextlib.closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for change in (
                registry.create("new", {"url": url(hook)}),
                registry.change("active", {"rate": 1.0}),
                registry.rotate_secret("active", overlap=0.0),
                registry.delete("active"),
                registry.pause("active"),
                registry.resume("paused", stored.Which.ALL),
            ):
                with pytest.raises(errors.StoreUnavailable, match="locked by another process"):
                    await change
            assert registry.all() == before
        await relay.submit(notify=["active", "paused"])
        await hook.wait_for(1)
        assert [one["destination"] for one in await relay.until_state("held")] == ["paused"]


# -- inline -------------------------------------------------------------------------------------------


async def test_a_url_is_one_destination_for_each_key(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path) as (relay, registry):
        name = await registry.inline(api_keys.ADMIN_ID, url(hook))
        assert await registry.inline(api_keys.ADMIN_ID, url(hook)) == name
        other = await registry.inline("key_b", url(hook))
        assert other != name
        assert (registry.get(name).owner, registry.get(other).owner) == (api_keys.ADMIN_ID, "key_b")
        public = registry.public_key(name)
        assert public is not None
        await relay.submit(notify=[name])
        [told] = await hook.wait_for(1)
        signed = f"{told.headers['webhook-id']}.{told.headers['webhook-timestamp']}.".encode() + told.body
        scheme, _, signature = told.headers["webhook-signature"].partition(",")
        assert scheme == "v1a"
        key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
        key.verify(base64.b64decode(signature), signed)
        with pytest.raises(errors.DestinationReadOnly):
            await registry.change(name, {"rate": 1.0})
    assert in_files(tmp_path, RATHER_SECRET) == []


async def test_an_inline_secret_is_rotated_in(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path) as (relay, registry):
        name = await registry.inline(api_keys.ADMIN_ID, url(hook), harness.SECRET)
        assert registry.get(name).signatures == ("v1",)
        second = "whsec_" + base64.b64encode(b"n" * 32).decode()
        assert await registry.inline(api_keys.ADMIN_ID, url(hook), second) == name
        await relay.submit(notify=[name])
        verify((await hook.wait_for(1))[0], second, harness.SECRET)
        with pytest.raises(errors.RequestRefused) as caught:
            await registry.inline(api_keys.ADMIN_ID, url(hook), "short")
        assert caught.value.pointer == "/secret"


async def test_inline_ones_go_when_nobody_names_them_for_long(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path, retention={"tasks_days": 10.0}) as (relay, registry):
        used, unused = await registry.inline("key_a", url(hook)), await registry.inline("key_b", url(hook))
        await registry.create("made", {"url": url(hook)})
        relay.advance(6 * DAY)
        await registry.inline("key_a", url(hook))
        await registry.care()
        relay.advance(5 * DAY)
        await registry.care()
        assert [known.name for known in registry.all()] == sorted([used, "made"])
        status, _ = await relay.call("PUT", "/tasks/x", json={"notify": [unused]})
        assert status == 422
    async with daemon(tmp_path) as (_, registry):
        assert [known.name for known in registry.all()] == sorted([used, "made"])


# -- kept ---------------------------------------------------------------------------------------------


async def test_one_that_cannot_be_used_any_more_stops_nothing(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    sealer = sealing.Sealer(key_file=tmp_path / "relay.db.key")
    store = await opening.open_store(f"sqlite:///{tmp_path}/relay.db", exclusive=True, migrate=True)
    definition = definitions.Definition(url="slak://a/b/c")
    record = definitions.Record(
        name="odd",
        source=model.Source.API,
        spec=definition.spec("odd"),
        options=definition.options,
        opened=definitions.unopened("odd"),
        definition=definition,
        created_at=1.0,
        changed_at=1.0,
    )
    await store.save_destination(definitions.to_store(record, sealer))
    await store.aclose()
    async with daemon(tmp_path, {"pipeline": harness.webhook(hook)}) as (relay, registry):
        odd = registry.get("odd")
        assert "did you mean slack://" in str(odd.problem)
        await relay.submit(notify=["pipeline"])
        await hook.wait_for(1)
        status, _ = await relay.call("PUT", "/tasks/x", json={"notify": ["odd"]})
        assert status == 422
        assert (await registry.pause("odd")).health.paused_at is not None
        mended = await registry.change("odd", {"url": url(hook, "mended"), "secret": harness.SECRET})
        assert (mended.problem, mended.health.paused_at is not None) == (None, True)
        await registry.resume("odd", stored.Which.ALL)
        await relay.submit(notify=["odd"], prompt="another")
        assert (await hook.wait_for(2))[1].path == "/mended"


OLD_KEY, NEW_KEY = "an-old-key-of-some-length", "a-new-key-of-some-length"


def security(*keys: str) -> dict[str, Any]:
    return {"admin_key": harness.ADMIN_KEY, "secret_key": list(keys)}


async def test_a_new_key_takes_over_and_the_old_one_may_go(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with daemon(tmp_path) as (_, registry):  # with a key of its own making
        made = await registry.create("made", {"url": url(hook)})
        assert made.secret is not None
    async with daemon(tmp_path, security=security(OLD_KEY)):
        pass
    (tmp_path / "relay.db.key").unlink()
    async with daemon(tmp_path, security=security(NEW_KEY, OLD_KEY)):
        pass
    async with daemon(tmp_path, security=security(NEW_KEY)) as (relay, _):
        await relay.submit(notify=["made"])
        verify((await hook.wait_for(1))[0], made.secret)
    for keys in ((OLD_KEY,), ()):
        with pytest.raises(errors.SecretUnreadable, match=r"^security.secret_key: "):
            async with daemon(tmp_path, security=security(*keys)):
                pass


async def test_who_lost_the_key_forgets_what_was_made_as_the_documents_say(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (relay, registry):
        await registry.create("made", {"url": url(hook)})
        await registry.pause("made")
        await relay.submit(notify=["made"])
        await relay.until_state("held")
    (tmp_path / "relay.db.key").unlink()
    document = Path(__file__).parents[2] / "docs" / "operating.md"
    command = re.search(r'^sqlite3 relay.db "([^"]*)"$', document.read_text("utf-8"), re.MULTILINE)
    assert command is not None
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as database:
        database.executescript(command[1])
    async with daemon(tmp_path) as (relay, registry):
        assert registry.all() == []
        [held] = await relay.until_state("held")
        await registry.create("made", {"url": url(hook)})
        assert (await hook.wait_for(1))[0].headers["webhook-id"] == held["id"]


async def test_a_key_is_missed_where_every_destination_is_gone(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path, security=security(OLD_KEY)) as (_, registry):
        await registry.create("made", {"url": url(hook)})
        await registry.delete("made")
    with pytest.raises(errors.SecretUnreadable):
        async with daemon(tmp_path, security=security(NEW_KEY)):
            pass


async def test_a_name_that_is_both_made_and_configured_is_refused(
    tmp_path: Path, hook: receivers.Receiver
) -> None:
    async with daemon(tmp_path) as (_, registry):
        await registry.create("made", {"url": url(hook)})
    with pytest.raises(errors.ConfigurationError, match=r"destinations\.made: .* made by API"):
        async with daemon(tmp_path, {"made": harness.webhook(hook)}):
            pass


def test_who_has_configured_destinations_only_encrypts_nothing(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from relay import daemon, settings
async def main():
    chosen = settings.load(environ={{}}, overrides={{
        "server": {{"port": 0}}, "store": {{"url": "sqlite:///{tmp_path}/relay.db"}},
        "upstreams": {{"a": {{"base_url": "http://127.0.0.1:9", "api_key": "x"}}}},
        "destinations": {{"pipeline": {{"url": "http://127.0.0.1:9/x", "secret": "{harness.SECRET}"}}}},
    }})
    async with daemon.running(chosen):
        print(*sys.modules)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "relay.engine.destinations" in done.stdout.split()
    assert "cryptography" not in done.stdout.split()
