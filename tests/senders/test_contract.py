"""What every sender must do, whatever it sends to: one suite for webhooks, chat services and mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from relay.domain import errors
from relay.senders import apprise, base
from tests.fakes import receivers, smtp
from tests.senders import channels
from tests.senders.conftest import LIMIT, outgoing

RETRY, DEAD, UNKNOWN = errors.Decision.RETRY, errors.Decision.DEAD, errors.Decision.UNKNOWN
LOGIN = ("user", channels.SECRET_PART)
SenderOf = Callable[[int], apprise.AppriseSender]


async def fail(sender: base.Sender, body: bytes) -> errors.SendError:
    """The error of a send that must fail; it never shows a secret."""
    with pytest.raises(errors.SendError) as caught:
        await sender.send(outgoing(body))
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {caught.value.__dict__}"
    assert channels.SECRET_PART.lower() not in shown.lower()
    return caught.value


async def test_an_accepted_message_is_accepted(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    accepted = await sender.send(outgoing(channel.body))
    assert accepted.status_code == channel.success.status
    [request] = receiver.requests
    assert request.method in ("POST", "PUT")
    assert b"succeeded" in request.body
    if channel.chat:
        assert b"https://cdn.test/out.mp4" in request.body.replace(b"\\/", b"/")


def test_nothing_secret_is_shown(sender: base.Sender) -> None:
    assert channels.SECRET_PART not in f"{sender!r} {sender.address} {sender.name} {sender.capacity}"
    assert sender.time_limit >= LIMIT
    assert sender.concurrency >= 1


@pytest.mark.parametrize(
    "status", [300, 302, 307, 400, 401, 403, 404, 408, 410, 413, 422, 425, 429, 500, 503]
)
async def test_every_status_has_its_decision(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver, status: int
) -> None:
    headers = {"Location": "http://127.0.0.1:9/elsewhere", "Retry-After": "7"} if status < 400 else {}
    receiver.answer = receivers.Answer(status=status, headers=headers)
    failure = await fail(sender, channel.body)
    assert failure.status_code == status
    assert failure.reason == ("redirect" if status < 400 else f"http_{status}")
    final = channel.chat and status in (400, 401, 403, 404, 410, 413, 422)
    assert failure.decision is (DEAD if final else RETRY)
    assert not failure.hung
    assert len(receiver.requests) == 1, "nothing is repeated and no redirect followed"


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), ("0", 1.0), ("999999", 3600.0), ("soon", None), ("-5", None)]
)
async def test_retry_after_is_told(
    sender: base.Sender,
    channel: channels.Channel,
    receiver: receivers.Receiver,
    asked: str,
    seconds: float | None,
) -> None:
    receiver.answer = receivers.Answer(status=429, headers={"Retry-After": asked})
    assert (await fail(sender, channel.body)).retry_after == seconds


async def test_retry_after_may_be_a_date(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(
        status=503,
        headers={"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT"},
    )
    assert (await fail(sender, channel.body)).retry_after == 30.0


async def test_a_peer_that_does_not_answer_hangs(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
    failure = await fail(sender, channel.body)
    assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    await receiver.wait_until_dropped()
    receiver.answer = channel.success
    assert await sender.send(outgoing(channel.body)), "the next send is not hurt by it"


@pytest.mark.parametrize(
    "channel", [channels.CHANNELS[0], channels.CHANNELS[5]], ids=lambda c: c.name, indirect=True
)
async def test_a_peer_that_never_ends_its_head_hangs(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
    failure = await fail(sender, channel.body)
    assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    await receiver.wait_until_dropped()


async def test_a_body_without_end_costs_bounded_time(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    """A webhook's status line decides; a chat service's answer is needed to know that it took it."""
    receiver.answer = receivers.Answer(status=200, manner=receivers.Manner.TRICKLE)
    if channel.chat:
        failure = await fail(sender, channel.body)
        assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    else:
        assert (await sender.send(outgoing(channel.body))).status_code == 200
    await receiver.wait_until_dropped()


async def test_an_oversized_answer_costs_bounded_memory(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(status=500, manner=receivers.Manner.OVERSIZE)
    failure = await fail(sender, channel.body)
    assert failure.reason == "http_500"
    assert len(str(failure)) < 500
    receiver.answer = receivers.Answer(status=200, manner=receivers.Manner.OVERSIZE)
    if channel.name in ("webhook", "discord", "ntfy", "mattermost", "gotify", "telegram"):
        assert (await sender.send(outgoing(channel.body))).status_code == 200
    else:  # Slack says in the body whether it took it
        failure = await fail(sender, channel.body)
        assert (failure.reason, failure.decision) == ("unclear_answer", UNKNOWN)


@pytest.mark.parametrize("manner", [receivers.Manner.RESET, receivers.Manner.GARBAGE])
async def test_a_broken_answer_is_retried(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver, manner: receivers.Manner
) -> None:
    receiver.answer = receivers.Answer(manner=manner)
    failure = await fail(sender, channel.body)
    assert failure.decision is RETRY
    assert failure.reason in ("connection_lost", "bad_answer")
    assert len(receiver.requests) == 1


async def test_a_closed_port_is_retried(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.stop_listening()
    failure = await fail(sender, channel.body)
    assert (failure.reason, failure.decision, failure.hung) == ("connect_failed", RETRY, False)


async def test_cancelling_stops_the_send(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
    sending = asyncio.create_task(sender.send(outgoing(channel.body)))
    await receiver.wait_for(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await receiver.wait_until_dropped()
    receiver.answer = channel.success
    assert await sender.send(outgoing(channel.body))


class TestMail:
    """The same for SMTP, whose answers are others."""

    @pytest.fixture
    def sender_of(self, pool: apprise.ApprisePool) -> SenderOf:
        def make(port: int) -> apprise.AppriseSender:
            url = (
                f"mailto://user:{channels.SECRET_PART}@127.0.0.1:{port}/"
                "?from=relay@example.com&to=me@example.com&mode=insecure"
            )
            return apprise.AppriseSender("renders", url=url, scheme="mailto", pool=pool, timeout=LIMIT)

        return make

    @pytest.mark.parametrize(
        ("command", "line", "decision"),
        [
            ("MAIL", "451 try later", RETRY),
            ("RCPT", "450 greylisted", RETRY),
            ("RCPT", "550 no such user", DEAD),
            ("DATA", "421 going down", RETRY),
            ("DATA", "552 mailbox full", DEAD),
            ("DATA", "554 looks like spam", DEAD),
        ],
    )
    async def test_every_code_has_its_decision(
        self, sender_of: SenderOf, command: str, line: str, decision: errors.Decision
    ) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.refusals[command] = line
            failure = await fail(sender_of(server.port), channels.BODY)
        assert failure.reason == f"smtp_{line[:3]}"
        assert failure.status_code == int(line[:3])
        assert failure.decision is decision

    @pytest.mark.parametrize("command", ["MAIL", "DATA"])
    async def test_a_server_that_does_not_answer_hangs(self, sender_of: SenderOf, command: str) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.hang_on = command
            failure = await fail(sender_of(server.port), channels.BODY)
        assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)

    async def test_a_closed_port_is_retried(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=LOGIN) as server:
            port = server.port
        failure = await fail(sender_of(port), channels.BODY)
        assert (failure.reason, failure.decision) == ("connect_failed", RETRY)

    async def test_a_wrong_password_is_final(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=("user", "another")) as server:
            failure = await fail(sender_of(server.port), channels.BODY)
        assert (failure.reason, failure.decision, server.mails) == ("smtp_535", DEAD, [])
