"""From configuration to senders: what is refused, and three channels working together."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from relay.domain import errors, model
from relay.senders import base, opening, signing
from tests.fakes import receivers, smtp
from tests.senders import channels
from tests.senders.conftest import KEY, outgoing

SECRET = signing.format_secret(KEY)
SLACK = f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{channels.SECRET_PART}"
OPENED = opening.NetworkConfig(allow_private=("127.0.0.0/8",))


def destination(url: str, *secrets: str, name: str = "renders") -> base.DestinationSpec:
    return base.DestinationSpec(name=name, url=url, secrets=secrets)


@pytest.mark.parametrize(
    ("url", "secrets", "said"),
    [
        ("example.com/hooks", (), "a URL starts with a scheme"),
        ("https://", (SECRET,), "names no host"),
        ("https://a b/", (SECRET,), "holds blanks"),
        ("https://x.example:99999/", (SECRET,), "cannot be read"),
        ("http://127.0.0.1/hooks", (), "needs a signing secret"),
        ("https://example.com/hooks", (), "needs a signing secret"),
        ("https://example.com/hooks", ("hunter2hunter2",), "starts with whsec_"),
        ("https://example.com/hooks", (SECRET, "whsec_short"), "base64"),
        ("slak://a/b/c", (), "did you mean slack://"),
        ("syslog://", (), "acts on the machine"),
        ("slack://nonsense", (), "missing or malformed"),
        ("json://example.com/?retry=3", (), "argument retry is not allowed"),
        (SLACK + "?redirect=yes", (), "argument redirect is not allowed"),
        (SLACK, (SECRET,), "only webhooks are signed, not slack"),
    ],
)
async def test_a_bad_destination_is_one_clear_line(url: str, secrets: tuple[str, ...], said: str) -> None:
    senders = opening.make_senders(OPENED)
    with pytest.raises(errors.DestinationRefused, match=said) as caught:
        await senders.open(destination(url, *secrets))
    await senders.aclose()
    text = str(caught.value)
    assert text.startswith("destinations.renders.")
    assert "\n" not in text
    for secret in (channels.SECRET_PART, "hunter2", "short", SECRET):
        assert secret not in text


PRIVATE = signing.format_private_key(bytes(range(32)))
HOOK = "https://example.com/hooks"


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        (HOOK, {"signing_key": "hunter2hunter2"}, "signing_key: a signing key starts with whsk_"),
        (HOOK, {"signing_key": "whsk_" + "QUJD" * 8}, "32 or 64 bytes, this one 24"),
        (
            HOOK,
            {"secrets": (SECRET,), "headers": {"Host": "hunter2hunter2"}},
            "headers: Host is set by relay",
        ),
        (
            "https://user:hunter2@example.com/",
            {"secrets": (SECRET,), "headers": {"authorization": "Bearer hunter2"}},
            "keep one of the two",
        ),
        ("slack://a/b/c", {"headers": {"X-Key": "hunter2"}}, "take headers of their own, not slack://"),
        (SLACK, {"headers": {"X-Key": "hunter2"}}, "take headers of their own, not slack://"),
        (SLACK, {"signing_key": PRIVATE}, "only webhooks are signed, not slack://"),
        ("mailto://u:p@example.com", {"signing_key": PRIVATE}, "only webhooks are signed, not mailto://"),
    ],
)
async def test_what_is_a_webhooks_is_checked_and_refused_elsewhere(
    url: str, more: dict[str, object], said: str
) -> None:
    spec = base.DestinationSpec(name="renders", url=url, **more)  # type: ignore[arg-type]
    senders = opening.make_senders(OPENED)
    with pytest.raises(errors.DestinationRefused, match=said) as caught:
        await senders.open(spec)
    await senders.aclose()
    text = str(caught.value)
    assert text.startswith("destinations.renders.")
    assert "\n" not in text
    assert not any(secret in text for secret in ("hunter2", PRIVATE[5:], channels.SECRET_PART))


async def test_a_signing_key_is_enough_and_its_public_half_is_told() -> None:
    senders = opening.make_senders(OPENED)
    try:
        found = await senders.open(
            base.DestinationSpec(name="asymmetric", url=HOOK, signing_key=PRIVATE),
            base.DestinationSpec(name="both", url=HOOK, signing_key=PRIVATE, secrets=(SECRET,)),
            base.DestinationSpec(name="usual", url=HOOK, secrets=(SECRET,)),
        )
        public = signing.public_key(PRIVATE)
        assert [one.public_key for one in found] == [public, public, None]
    finally:
        await senders.aclose()


async def test_a_webhook_that_nothing_signs_is_told_apart() -> None:
    senders = opening.make_senders(OPENED)
    with pytest.raises(errors.SecretMissing) as caught:
        await senders.open(destination(HOOK))
    await senders.aclose()
    assert (caught.value.name, caught.value.part) == ("renders", "secret")
    assert caught.value.problem.startswith("a webhook needs")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (opening.NetworkConfig(allow_private=("10.0.0.1/8",)), "network.allow_private"),
        (opening.NetworkConfig(proxy="egress:3128"), "network.proxy"),
        (opening.NetworkConfig(ca_file=Path("/nonexistent/ca.pem")), "network.ca_file"),
        (opening.NetworkConfig(ca_file=Path(__file__)), "network.ca_file"),
    ],
)
async def test_a_bad_network_is_one_clear_line(network: opening.NetworkConfig, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said):
        opening.make_senders(network)


async def test_what_is_what() -> None:
    senders = opening.make_senders(OPENED)
    try:
        found = await senders.open(
            destination(SLACK, name="team"),
            destination("https://example.com/hooks", SECRET, name="pipeline"),
            destination("mailto://u:p@example.com", name="mail"),
            base.DestinationSpec(
                name="slow", url="http://127.0.0.1/", secrets=(SECRET,), timeout=3.0, concurrency=2
            ),
        )
        opened = {one.sender.name: one.sender for one in found}
        assert {one.sender.name: one.service for one in found} == {
            "team": "Slack",
            "pipeline": "signed webhook",
            "mail": "E-Mail",
            "slow": "signed webhook",
        }
        assert {name: s.address for name, s in opened.items()} == {
            "team": "slack://",
            "pipeline": "https://example.com",
            "mail": "mailto://",
            "slow": "http://127.0.0.1",
        }
        assert opened["team"].format is model.Format.CHAT
        assert opened["pipeline"].format is model.Format.WEBHOOK
        assert opened["mail"].time_limit > opened["team"].time_limit
        assert (opened["slow"].time_limit, opened["slow"].concurrency) == (4.0, 2)
    finally:
        await senders.aclose()
        await senders.aclose()


def test_the_daemons_side_imports_neither_apprise_nor_requests() -> None:
    code = "import sys, relay.senders.opening; print('apprise' in sys.modules or 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_configurations_do_not_show_secrets() -> None:
    full = base.DestinationSpec(
        name="w", url=HOOK, secrets=(SECRET,), signing_key=PRIVATE, headers={"X-Key": "hunter2"}
    )
    shown = (
        repr(destination(SLACK, SECRET))
        + repr(full)
        + repr(opening.NetworkConfig(proxy="http://u:hunter2@egress:1"))
    )
    assert not any(secret in shown for secret in (channels.SECRET_PART, SECRET, PRIVATE, "hunter2"))


async def test_three_channels_with_a_private_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    network = opening.NetworkConfig(allow_private=("127.0.0.0/8",), ca_file=ca_file)
    async with (
        receivers.serve(ssl_context=serving) as https,
        receivers.serve() as ntfy,
        smtp.serve(tls=serving, login=("user", "password")) as mail,
    ):
        https.answer = receivers.Answer(status=202)
        ntfy.answer = receivers.Answer(status=200)
        mail_url = f"mailto://user:password@127.0.0.1:{mail.port}/?from=relay@example.com&to=me@example.com"
        senders = opening.make_senders(network)
        try:
            for one in await senders.open(
                destination(https.url + "/hooks", SECRET, name="pipeline"),
                destination(f"ntfy://127.0.0.1:{ntfy.port}/topic", name="phone"),
                destination(mail_url + "&mode=starttls", name="mail"),
                destination(f"workflows://127.0.0.1:{https.port}/workflow/signature", name="teams"),
            ):
                body = channels.WEBHOOK_BODY if one.sender.name == "pipeline" else channels.BODY
                await one.sender.send(outgoing(body))
        finally:
            await senders.aclose()
        assert https.requests[0].path == "/hooks"
        assert len(https.requests) == 2
        assert b"succeeded" in ntfy.requests[0].body
        [received] = mail.mails
    assert (received.encrypted, received.user) == (True, "user")
    assert "https://cdn.test/out.mp4" in received.text
    assert json.loads(https.requests[0].body)["type"] == "task.succeeded"
