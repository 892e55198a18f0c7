"""Destinations over HTTP: made, changed, held, resumed, and never shown."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
import standardwebhooks

from tests.fakes import receivers

SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()


async def make(api: Any, name: str = "made", **more: Any) -> dict[str, Any]:
    """A webhook destination at the receiver's, made by the admin."""
    body = {"name": name, "url": f"{api.receiver.url}/made", **more}
    reply = await api.call("POST", "/destinations", json=body)
    assert reply.status == 201, reply.body
    return dict(reply.body)


async def ended_task(api: Any, *notify: Any, key: str | None = None) -> str:
    """A task that ended and tells ``notify``."""
    task_id = str(await api.upstream.submit())
    more = {} if key is None else {"key": key}
    reply = await api.call("PUT", f"/tasks/{task_id}", json={"notify": list(notify)}, **more)
    assert reply.status == 201, reply.body
    api.upstream.finish()
    await api.until(f"/tasks/{task_id}", lambda task: task["relay"]["verdict"] == "ended")
    return task_id


async def deliveries(api: Any, count: int, **filters: str) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    body = await api.until(f"/deliveries?{query}", lambda found: len(found["deliveries"]) >= count)
    return list(body["deliveries"])


# -- making -------------------------------------------------------------------------------------------


async def test_a_made_destination_is_told_and_its_secret_shown_once(api: Any) -> None:
    made = await make(api)
    secret = made.pop("secret")
    shown = (await api.call("GET", "/destinations/made")).body
    assert shown == made
    assert (shown["source"], shown["state"], shown["signatures"]) == ("api", "active", ["v1"])
    assert shown["address"] == api.receiver.url
    assert "/made" not in str(shown)
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    standardwebhooks.Webhook(secret).verify(told.body, told.headers)


async def test_it_is_there_after_a_restart(start: Any) -> None:
    async with start("http://127.0.0.1:9") as api:
        await make(api, rate=5, schedule=[0, 1], statuses=["failed"])
        before = (await api.call("GET", "/destinations/made")).body
        await api.call("POST", "/destinations/made/pause")
    async with start("http://127.0.0.1:9") as api:
        after = (await api.call("GET", "/destinations/made")).body
        assert after["state"] == "paused"
        same = {name: value for name, value in before.items() if name not in ("state", "paused_at")}
        assert same.items() <= after.items()


async def test_the_secret_of_ones_own_is_not_repeated(api: Any) -> None:
    made = await make(api, secret=SECRET)
    assert SECRET not in str(made)
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    standardwebhooks.Webhook(SECRET).verify(told.body, told.headers)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "Made"}, "/name"),
        ({"name": "inline_mine"}, "/name"),
        ({"url": "no url"}, "/url"),
        ({"url": "slak://a/b/c"}, "/url"),
        ({"url": "syslog://localhost"}, "/url"),
        ({"url": "json://127.0.0.1/?template=/etc/passwd"}, "/url"),
        ({"url": "file:///etc/passwd"}, "/url"),
        ({"url": None}, "/url"),
        ({"secret": "short"}, "/secret"),
        ({"headers": {"Webhook-Id": "x"}}, "/headers"),
        ({"headers": {"X-A": "a\r\nb"}}, "/headers"),
        ({"schedule": []}, "/schedule"),
        ({"schedule": [-1]}, "/schedule/0"),
        ({"rate": 0}, "/rate"),
        ({"statuses": ["done"]}, "/statuses/0"),
        ({"concurrency": 0}, "/concurrency"),
        ({"retries": 3}, "/retries"),
    ],
)
async def test_what_is_wrong_is_said_at_its_place_and_nothing_is_made(
    api: Any, change: dict[str, Any], pointer: str
) -> None:
    body = {"name": "made", "url": f"{api.receiver.url}/tok-secret-tok", **change}
    reply = await api.call("POST", "/destinations", json=body)
    assert reply.status == 422, reply.body
    assert str(reply.body["errors"][0]["pointer"]).startswith(pointer)
    assert "tok-secret-tok" not in str(reply.body)
    assert "passwd" not in str(reply.body)
    names = [each["name"] for each in (await api.call("GET", "/destinations")).body["destinations"]]
    assert names == ["archive", "pipeline"]


async def test_a_name_is_taken_once(api: Any) -> None:
    await make(api)
    for name in ("made", "pipeline"):
        body = {"name": name, "url": f"{api.receiver.url}/x"}
        reply = await api.call("POST", "/destinations", json=body)
        assert reply.status == 409, name
        assert name in reply.body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"rate": 1}),
        ("DELETE", "", None),
        ("POST", "/rotate-secret", {}),
    ],
)
async def test_those_of_the_configuration_say_that_they_are_read_only(
    api: Any, method: str, path: str, body: Any
) -> None:
    reply = await api.call(method, f"/destinations/pipeline{path}", json=body)
    assert reply.status == 409
    assert "configuration" in reply.body["detail"]


# -- changing -----------------------------------------------------------------------------------------


async def test_a_change_leaves_the_rest_and_null_is_the_default(api: Any) -> None:
    await make(api, rate=5, timeout=3, statuses=["failed"], secret=SECRET)
    path = "/destinations/made"
    changed = (await api.call("PATCH", path, json={"rate": None, "prompt": False})).body
    assert (changed["rate"], changed["prompt"], changed["timeout"]) == (None, False, 3)
    assert changed["statuses"] == ["failed"]
    changed = (
        await api.call("PATCH", path, json={"statuses": None, "url": f"{api.receiver.url}/moved"})
    ).body
    assert "succeeded" in changed["statuses"]
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    assert told.path == "/moved"
    standardwebhooks.Webhook(SECRET).verify(told.body, told.headers)


async def test_the_timeout_in_force_is_shown(api: Any) -> None:
    assert (await make(api))["timeout"] == 15
    for kind, url in (("chat", "ntfys://ntfy.example/topic"), ("mail", "mailto://user:word@mail.example")):
        assert (await make(api, kind, url=url))["timeout"] == {"chat": 10, "mail": 30}[kind]
    changed = (await api.call("PATCH", "/destinations/made", json={"timeout": 3})).body
    assert changed["timeout"] == 3
    changed = (await api.call("PATCH", "/destinations/made", json={"timeout": None})).body
    assert changed["timeout"] == 15


async def test_a_webhook_does_not_become_chat_and_says_what_to_do(api: Any) -> None:
    await make(api)
    reply = await api.call("PATCH", "/destinations/made", json={"url": "ntfy://127.0.0.1/topic"})
    assert reply.status == 422
    [fault] = reply.body["errors"]
    assert fault["pointer"] == "/url", "the request names no secret that could be left out"
    assert "delete it and make it anew" in fault["detail"]


async def test_a_signing_key_goes_where_something_else_signs(api: Any) -> None:
    key = "whsk_" + base64.b64encode(bytes(range(32))).decode()
    await make(api, "both", signing_key=key, secret=SECRET)
    changed = (await api.call("PATCH", "/destinations/both", json={"signing_key": None})).body
    assert changed["signatures"] == ["v1"]
    await make(api, signing_key=key)
    refused = await api.call("PATCH", "/destinations/made", json={"signing_key": None})
    assert refused.status == 422
    assert refused.body["errors"][0]["pointer"] == "/signing_key"
    assert "nothing would sign" in refused.body["detail"]
    assert "rotate a secret in first" in refused.body["detail"]
    assert (await api.call("GET", "/destinations/made")).body["signatures"] == ["v1a"]


async def test_one_that_becomes_a_webhook_is_not_sent_where_no_secret_is_taken(api: Any) -> None:
    key = "whsk_" + base64.b64encode(bytes(range(32))).decode()
    await make(api, url="ntfys://ntfy.example/topic")
    assert (await api.call("POST", "/destinations/made/rotate-secret", json={})).status == 422
    url = "https://example.com/hook"
    refused = await api.call("PATCH", "/destinations/made", json={"url": url})
    assert refused.status == 422
    assert "give it a signing_key" in refused.body["detail"]
    assert "rotate" not in refused.body["detail"]
    changed = await api.call("PATCH", "/destinations/made", json={"url": url, "signing_key": key})
    assert changed.body["signatures"] == ["v1a"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://10.1.2.3/tok-secret-tok", "private"),
        ("https://169.254.169.254/tok-secret-tok", "metadata"),
        ("json://10.1.2.3/tok-secret-tok", "private"),
    ],
)
async def test_a_change_to_an_address_that_is_refused_names_the_rule_and_changes_nothing(
    api: Any, url: str, rule: str
) -> None:
    await make(api, secret=SECRET)
    before = (await api.call("GET", "/destinations/made")).body
    reply = await api.call("PATCH", "/destinations/made", json={"url": url, "rate": 1, "prompt": False})
    assert reply.status == 422, reply.body
    assert f"rule {rule}" in reply.body["detail"]
    assert [error["pointer"] for error in reply.body["errors"]] == ["/url"]
    assert "tok-secret-tok" not in str(reply.body)
    assert (await api.call("GET", "/destinations/made")).body == before
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    assert told.path == "/made"
    standardwebhooks.Webhook(SECRET).verify(told.body, told.headers)


async def test_headers_go_out_and_only_their_names_are_shown(api: Any) -> None:
    made = await make(api, headers={"X-Token": "tok-secret-tok"})
    assert made["headers"] == ["X-Token"]
    assert "tok-secret-tok" not in str(made)
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    assert told.headers["x-token"] == "tok-secret-tok"


async def test_both_secrets_sign_during_a_rotation(api: Any) -> None:
    await make(api, secret=SECRET)
    rotated = (await api.call("POST", "/destinations/made/rotate-secret", json={"overlap": 3600})).body
    assert rotated["old_until"] is not None
    assert (await api.call("GET", "/destinations/made")).body["old_until"] == rotated["old_until"]
    await ended_task(api, "made")
    [told] = await api.receiver.wait_for(1)
    for secret in (rotated["secret"], SECRET):
        standardwebhooks.Webhook(secret).verify(told.body, told.headers)
    again = (await api.call("POST", "/destinations/made/rotate-secret", json={"overlap": 0})).body
    assert again["old_until"] is None
    assert (await api.call("GET", "/destinations/made")).body["old_until"] is None
    await ended_task(api, "made")
    told = (await api.receiver.wait_for(2))[1]
    standardwebhooks.Webhook(again["secret"]).verify(told.body, told.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(rotated["secret"]).verify(told.body, told.headers)


async def test_a_signing_key_has_a_public_half(api: Any) -> None:
    key = "whsk_" + base64.b64encode(bytes(range(32))).decode()
    made = await make(api, signing_key=key)
    assert made["signatures"] == ["v1a"]
    assert "secret" not in made
    public = (await api.call("GET", "/destinations/made/public-key")).body["public_key"]
    assert public.startswith("whpk_")
    assert (await api.call("GET", "/destinations/pipeline/public-key")).status == 404


# -- holding ------------------------------------------------------------------------------------------


async def test_paused_is_held_and_resumed_is_told(api: Any) -> None:
    await make(api)
    paused = (await api.call("POST", "/destinations/made/pause")).body
    assert paused["state"] == "paused"
    assert paused["paused_at"] is not None
    await ended_task(api, "made")
    [held] = await deliveries(api, 1, state="held")
    assert held["reason"] == "paused"
    assert api.receiver.requests == []
    resumed = (await api.call("POST", "/destinations/made/resume", json={})).body
    assert (resumed["state"], resumed["released"]) == ("active", 1)
    [told] = await api.receiver.wait_for(1)
    assert told.headers["webhook-id"] == held["id"]


async def test_one_of_the_configuration_can_be_paused_too(api: Any) -> None:
    assert (await api.call("POST", "/destinations/pipeline/pause")).body["state"] == "paused"
    await ended_task(api, "pipeline")
    await deliveries(api, 1, state="held")
    await api.call("POST", "/destinations/pipeline/resume", json={"which": "all"})
    await api.receiver.wait_for(1)


async def test_nothing_of_what_was_held_need_be_told(api: Any) -> None:
    await make(api)
    await api.call("POST", "/destinations/made/pause")
    await ended_task(api, "made")
    await deliveries(api, 1, state="held")
    resumed = (await api.call("POST", "/destinations/made/resume", json={"which": "none"})).body
    assert (resumed["released"], resumed["dropped"]) == (0, 1)
    [dead] = await deliveries(api, 1, state="dead")
    assert dead["reason"] == "not_resumed"
    assert (await api.call("POST", f"/deliveries/{dead['id']}/redeliver")).status == 202
    await api.receiver.wait_for(1)


async def test_a_redelivery_that_is_called_off_leaves_what_arrived_delivered(api: Any) -> None:
    await make(api)
    await ended_task(api, "made")
    [told] = await deliveries(api, 1, state="delivered")
    await api.call("POST", "/destinations/made/pause")
    again = (await api.call("POST", f"/deliveries/{told['id']}/redeliver")).body
    assert (again["state"], again["reason"]) == ("held", "paused")
    resumed = (await api.call("POST", "/destinations/made/resume", json={"which": "none"})).body
    assert (resumed["released"], resumed["dropped"], resumed["restored"]) == (0, 0, 1)
    [kept] = await deliveries(api, 1, state="delivered")
    assert (kept["id"], kept["delivered_at"]) == (told["id"], told["delivered_at"])


async def test_gone_is_disabled_and_a_test_that_arrives_enables_it(api: Any) -> None:
    await make(api)
    api.receiver.answer = receivers.Answer(status=410)
    await ended_task(api, "made")
    gone = await api.until("/destinations/made", lambda one: one["state"] == "disabled")
    assert gone["disabled_reason"] == "http_410"
    [held] = await deliveries(api, 1, state="held")
    assert held["reason"] == "disabled"
    api.receiver.answer = receivers.Answer()
    tested = (await api.call("POST", "/destinations/made/test")).body
    assert tested["state"] == "delivered"
    assert (await api.call("GET", "/destinations/made")).body["state"] == "active"
    told = await api.receiver.wait_for(3)
    assert told[2].headers["webhook-id"] == held["id"]


async def test_deleted_is_held_until_there_is_one_of_that_name_again(api: Any) -> None:
    await make(api, schedule=[0, 600])
    api.receiver.answer = receivers.Answer(status=500)
    await ended_task(api, "made")
    await deliveries(api, 1, state="pending", reason="http_500")
    assert (await api.call("DELETE", "/destinations/made")).status == 204
    assert (await api.call("GET", "/destinations/made")).status == 404
    reply = await api.call("PUT", "/tasks/other", json={"notify": ["made"]})
    assert reply.status == 422
    [held] = await deliveries(api, 1, state="held")
    assert held["reason"] == "destination_missing"
    api.receiver.answer = receivers.Answer()
    await make(api)
    told = await api.receiver.wait_for(2)
    assert told[1].headers["webhook-id"] == held["id"]


# -- inline -------------------------------------------------------------------------------------------


async def test_urls_are_refused_unless_the_operator_permits_them(api: Any) -> None:
    for whom in ("https://example.com/tok-secret", {"url": "https://example.com/tok-secret"}):
        reply = await api.call("PUT", "/tasks/a", json={"notify": ["pipeline", whom]})
        assert reply.status == 422
        assert reply.body["errors"][0]["pointer"] == "/notify/1"
        assert "allow_inline_destinations" in reply.body["detail"]
        assert "tok-secret" not in str(reply.body)


@pytest.fixture
async def inline(start: Any) -> Any:
    """A daemon that takes URLs in ``notify``."""
    from tests.fakes import sandbox
    from tests.web.conftest import ADMIN_KEY

    security = {"admin_key": ADMIN_KEY, "allow_inline_destinations": True}
    async with (
        sandbox.running_sandbox(stepped=True) as upstream,
        start(upstream.url, security=security) as api,
    ):
        api.upstream = upstream
        yield api


async def test_a_url_becomes_a_destination_of_the_key_that_named_it(inline: Any) -> None:
    api = inline
    (own, own_id), (other, _) = await api.client_key("own"), await api.client_key("other")
    url = f"{api.receiver.url}/mine"
    await ended_task(api, {"url": url, "secret": SECRET}, key=own)
    [told] = await api.receiver.wait_for(1)
    assert told.path == "/mine"
    standardwebhooks.Webhook(SECRET).verify(told.body, told.headers)
    [mine] = [
        each
        for each in (await api.call("GET", "/destinations", key=own)).body["destinations"]
        if each["source"] == "inline"
    ]
    assert mine["owner"] == own_id
    assert "/mine" not in str(mine)
    for key, seen in ((other, 404), (own, 200)):
        assert (await api.call("GET", f"/destinations/{mine['name']}", key=key)).status == seen
        named = await api.call("PUT", "/tasks/b", json={"notify": [mine["name"]]}, key=key)
        assert named.status == (201 if seen == 200 else 422)
        assert seen == 200 or mine["name"] not in named.body["detail"].partition("configured:")[2]
    # The same URL again is the same destination.
    await ended_task(api, {"url": url, "secret": SECRET}, key=own)
    listed = (await api.call("GET", "/destinations", key=own)).body["destinations"]
    assert sum(each["source"] == "inline" for each in listed) == 1


async def test_a_bare_url_is_signed_so_that_its_public_key_verifies(inline: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    api = inline
    key, _ = await api.client_key("own")
    task_id = await ended_task(api, f"{api.receiver.url}/bare", key=key)
    [told] = await api.receiver.wait_for(1)
    shown = (await api.call("GET", f"/tasks/{task_id}", key=key)).body
    [name] = shown["relay"]["registrations"][0]["notify"]
    public = (await api.call("GET", f"/destinations/{name}/public-key", key=key)).body["public_key"]
    signed = f"{told.headers['webhook-id']}.{told.headers['webhook-timestamp']}.".encode() + told.body
    scheme, _, signature = told.headers["webhook-signature"].partition(",")
    assert scheme == "v1a"
    verifier = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    verifier.verify(base64.b64decode(signature), signed)


@pytest.mark.parametrize(
    ("whom", "pointer"),
    [
        ({"url": "slak://a"}, "/notify/0"),
        ({"url": "syslog://localhost"}, "/notify/0"),
        ({"url": "http://127.0.0.1/", "secret": "short"}, "/notify/0/secret"),
        ({"url": "http://127.0.0.1/", "name": "x"}, "/notify/0/name"),
        ({"secret": SECRET}, "/notify/0/url"),
        ({}, "/notify/0/url"),
        (17, "/notify/0"),
        ("", "/notify/0"),
    ],
)
async def test_what_is_wrong_with_a_url_is_said_at_its_place(inline: Any, whom: Any, pointer: str) -> None:
    reply = await inline.call("PUT", "/tasks/a", json={"notify": [whom]})
    assert reply.status == 422
    assert str(reply.body["errors"][0]["pointer"]).startswith(pointer)
    listed = (await inline.call("GET", "/destinations")).body["destinations"]
    assert all(each["source"] == "configuration" for each in listed)


async def test_urls_in_creates_and_in_bulk(inline: Any) -> None:
    api = inline
    whom = {"url": f"{api.receiver.url}/bulk", "secret": SECRET}
    first, second = await asyncio.gather(api.upstream.submit(), api.upstream.submit())
    tasks = [{"task": first, "notify": [whom]}, {"task": second, "notify": [{"url": "slak://x"}]}]
    reply = await api.call("POST", "/registrations", json={"tasks": tasks})
    created, refused = reply.body["registrations"]
    assert (created["result"], refused["result"]) == ("created", "refused")
    assert refused["error"]["errors"][0]["pointer"].startswith("/notify/0")
    api.upstream.finish()
    [told] = await api.receiver.wait_for(1)
    assert told.path == "/bulk"
