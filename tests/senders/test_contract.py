"""What every sender must do, whatever it sends to: one suite for webhooks, chat services and mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from relay.domain import errors
from relay.senders import apprise, apprise_jobs, base, verdicts, words
from tests.fakes import receivers, smtp
from tests.senders import channels, decisions
from tests.senders.conftest import LIMIT, PATIENCE, outgoing

RETRY, UNKNOWN = errors.Decision.RETRY, errors.Decision.UNKNOWN
LOGIN = ("user", channels.SECRET_PART)
SenderOf = Callable[..., apprise.AppriseSender]


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


async def test_every_status_has_its_decision(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    headers = {"Location": "http://127.0.0.1:9/elsewhere?token=1", "Retry-After": "7"}
    seen = {}
    for status in decisions.STATUSES:
        receiver.answer = receivers.Answer(status=status, headers=headers)
        failure = await fail(sender, channel.body)
        assert (failure.status_code, failure.retry_after) == (status, 7.0)
        assert (failure.hung, failure.charged) == (False, True)
        seen[status] = (failure.reason, failure.decision)
    assert seen == {s: decisions.of_status(s, chat=channel.chat) for s in decisions.STATUSES}
    assert len(receiver.requests) == len(decisions.STATUSES), "nothing is repeated and no redirect followed"


async def test_what_a_service_says_in_its_own_way(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    cases = [case for case in decisions.CASES if case.channel == channel.name]
    assert cases or channel.name == "webhook"
    for case in cases:
        receiver.answer = case.answer
        failure = await fail(sender, channel.body)
        got = (failure.reason, failure.decision, failure.retry_after, failure.status_code)
        assert got == (case.reason, case.decision, case.retry_after, case.status), case
        about = {errors.Decision.DEAD: "about the message", errors.Decision.DISABLE: "about the destination"}
        assert about.get(case.decision, "") in str(failure)
    assert len(receiver.requests) == len(cases)


async def test_an_order_in_the_answer_is_a_webhooks_alone(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    for status, order, reason, decision, disable in decisions.ORDERS:
        headers = {"webhook-delivery": order, "Retry-After": "7"}
        body = channel.success.body if status < 300 else b""
        if channel.chat:
            if status >= 300:
                reason, decision = decisions.of_status(status, chat=True)
            elif status != channel.success.status:
                continue
            else:
                reason, decision, disable = None, None, False
        receiver.answer = receivers.Answer(status=status, headers=headers, body=body)
        case = (status, order)
        if reason is None:
            accepted = await sender.send(outgoing(channel.body))
            assert accepted.disable is disable, case
        else:
            failure = await fail(sender, channel.body)
            assert (failure.reason, failure.decision) == (reason, decision), case
            assert (failure.decision is errors.Decision.DISABLE) is disable or channel.chat, case


def test_no_line_of_the_tables_is_without_an_example() -> None:
    """The other way round: what the code decides beyond the table that is promised here."""
    shown = {
        (verdicts.Kind.WEBHOOK, verdicts.line(verdicts.Kind.WEBHOOK, status, None))
        for status in (200, *decisions.STATUSES)
    }
    for status, order, *_ in decisions.ORDERS:
        control = verdicts.control(order)
        shown.add((verdicts.Kind.WEBHOOK, verdicts.line(verdicts.Kind.WEBHOOK, status, control)))
    for status in (*decisions.STATUSES, 200):
        shown.add((verdicts.Kind.CHAT, verdicts.line(verdicts.Kind.CHAT, status, None)))
    for case in decisions.CASES:
        word = next((w for w in sorted(words.KNOWN) if w.encode() in case.body), verdicts.OTHER)
        shown.add((verdicts.Kind.CHAT, verdicts.line(verdicts.Kind.CHAT, case.status, word)))
    steps = {"GREETING": apprise_jobs.Step.GREETING, "DATA": apprise_jobs.Step.MESSAGE}
    for command, said, _ in decisions.MAIL:
        found = verdicts.line(verdicts.Kind.MAIL, int(said[:3]), steps.get(command))
        shown.add((verdicts.Kind.MAIL, found))
    written = {(kind, line) for kind, lines in verdicts.TABLES.items() for line in lines}
    assert written - shown == set()


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), ("0", 1.0), ("9999999", 604800.0), ("soon", None), ("-5", None)]
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
    hasty: base.Sender, sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
    failure = await fail(hasty, channel.body)
    assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    await receiver.wait_until_dropped()
    receiver.answer = channel.success
    assert await sender.send(outgoing(channel.body)), "the next send is not hurt by it"


async def test_waiting_is_not_asked_of_us_by_who_took_it(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    ok = channel.success
    receiver.answer = receivers.Answer(status=ok.status, body=ok.body, headers={"Retry-After": "7"})
    assert (await sender.send(outgoing(channel.body))).status_code == ok.status


@pytest.mark.parametrize("status", [200, 400, 403, 500])
async def test_a_peer_that_repeats_our_secrets_is_not_quoted(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver, status: int
) -> None:
    secret = channels.SECRET_PART.lower().encode()
    for body in (secret, b'{"ok": false, "error": "%s"}' % secret, b'{"ok":false,"code":"%s"}' % secret):
        receiver.answer = receivers.Answer(status=status, body=body)
        shown: object
        try:
            shown = await sender.send(outgoing(channel.body))
        except errors.SendError as error:
            shown = f"{error} {error.reason}"
        assert secret.decode() not in str(shown).lower()


async def test_a_peer_that_never_ends_its_head_hangs(
    hasty: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
    failure = await fail(hasty, channel.body)
    assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    await receiver.wait_until_dropped()


async def test_a_body_without_end_costs_bounded_time(
    hasty: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    """A webhook's status line decides; a chat service's answer is needed to know that it took it."""
    receiver.answer = receivers.Answer(status=200, manner=receivers.Manner.TRICKLE)
    if channel.chat:
        failure = await fail(hasty, channel.body)
        assert (failure.reason, failure.decision, failure.hung) == ("timeout", UNKNOWN, True)
    else:
        assert (await hasty.send(outgoing(channel.body))).status_code == 200
    await receiver.wait_until_dropped()


async def test_an_oversized_answer_costs_bounded_memory(
    sender: base.Sender, channel: channels.Channel, receiver: receivers.Receiver
) -> None:
    receiver.answer = receivers.Answer(status=500, manner=receivers.Manner.OVERSIZE)
    failure = await fail(sender, channel.body)
    assert failure.reason == "http_500"
    assert len(str(failure)) < 500
    receiver.answer = receivers.Answer(status=200, manner=receivers.Manner.OVERSIZE)
    if channel.name in ("webhook", "discord", "ntfy", "mattermost", "gotify", "telegram", "teams"):
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
        def make(port: int, *, limit: float = PATIENCE) -> apprise.AppriseSender:
            url = (
                f"mailto://user:{channels.SECRET_PART}@127.0.0.1:{port}/"
                "?from=relay@example.com&to=me@example.com&mode=insecure"
            )
            return apprise.AppriseSender("renders", url=url, scheme="mailto", pool=pool, timeout=limit)

        return make

    async def test_an_accepted_mail_is_accepted(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=LOGIN) as server:
            assert (await sender_of(server.port).send(outgoing(channels.BODY))).disable is False
            [mail] = await server.wait_for(1)
        assert "https://cdn.test/out.mp4" in mail.text

    @pytest.mark.parametrize(("command", "line", "decision"), decisions.MAIL)
    async def test_every_code_has_its_decision(
        self, sender_of: SenderOf, command: str, line: str, decision: errors.Decision
    ) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.refusals[command] = line
            failure = await fail(sender_of(server.port), channels.BODY)
        code = int(line[:3])
        assert (failure.reason, failure.status_code) == (f"smtp_{code}", code)
        assert (failure.decision, failure.hung, failure.charged) == (decision, False, True)
        assert server.mails == []

    @pytest.mark.parametrize("command", ["GREETING", "MAIL", "DATA"])
    @pytest.mark.parametrize("manner", [receivers.Manner.HANG, receivers.Manner.TRICKLE])
    async def test_a_server_that_does_not_answer_hangs(
        self, sender_of: SenderOf, command: str, manner: receivers.Manner
    ) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.manners[command] = manner
            failure = await fail(sender_of(server.port, limit=LIMIT), channels.BODY)
            await server.wait_until_ended()
            server.manners.clear()
            assert await sender_of(server.port).send(outgoing(channels.BODY)), "the next is not hurt by it"
        assert failure.hung
        if failure.reason == "connect_timeout":
            assert (command, failure.decision) == ("GREETING", RETRY)
        else:
            assert (failure.reason, failure.decision) == ("timeout", UNKNOWN)

    @pytest.mark.parametrize("command", ["GREETING", "MAIL", "DATA"])
    @pytest.mark.parametrize(
        "manner", [receivers.Manner.RESET, receivers.Manner.GARBAGE, receivers.Manner.OVERSIZE]
    )
    async def test_a_broken_answer_is_retried(
        self, sender_of: SenderOf, command: str, manner: receivers.Manner
    ) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.manners[command] = manner
            failure = await fail(sender_of(server.port), channels.BODY)
            await server.wait_until_ended()
        assert (failure.decision, failure.charged, server.mails) == (RETRY, True, [])
        assert len(str(failure)) < 500

    async def test_a_closed_port_is_retried(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=LOGIN) as server:
            port = server.port
        failure = await fail(sender_of(port), channels.BODY)
        assert (failure.reason, failure.decision) == ("connect_failed", RETRY)

    async def test_a_wrong_password_is_about_the_destination(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=("user", "another")) as server:
            failure = await fail(sender_of(server.port), channels.BODY)
        assert (failure.reason, failure.decision) == ("smtp_535", errors.Decision.DISABLE)
        assert server.mails == []

    async def test_cancelling_stops_the_send(self, sender_of: SenderOf) -> None:
        async with smtp.serve(login=LOGIN) as server:
            server.manners["DATA"] = receivers.Manner.HANG
            sending = asyncio.create_task(sender_of(server.port).send(outgoing(channels.BODY)))
            await server.wait_until_asked("DATA")
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await server.wait_until_ended()
            server.manners.clear()
            assert await sender_of(server.port).send(outgoing(channels.BODY))
            assert len(await server.wait_for(1)) == 1
