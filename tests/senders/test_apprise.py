"""Chat and mail beyond the contract: the workers' life, what reaches each channel, and refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.domain import errors, model
from relay.senders import apprise, apprise_jobs, recognise, schemes
from tests.fakes import receivers, smtp
from tests.senders import channels
from tests.senders import workers as prepared
from tests.senders.conftest import LIMIT, outgoing

LONG = "Output: https://cdn.test/out.mp4\n" + "a rather long prompt with words " * 400


def chat(pool: apprise.ApprisePool, url: str, *, timeout: float = 10.0) -> apprise.AppriseSender:
    return apprise.AppriseSender(
        "renders", url=url, scheme=url.partition("://")[0], pool=pool, timeout=timeout
    )


def message(title: str, text: str) -> bytes:
    return json.dumps({"title": title, "text": text}).encode()


@pytest.fixture
async def shut_pool() -> AsyncIterator[apprise.ApprisePool]:
    """One worker for which nothing private is opened."""
    made = apprise.ApprisePool(apprise_jobs.Surroundings(), seats=1)
    yield made
    await made.aclose()


class TestWhatIsSent:
    """Limits, markup and mentions, as each service receives them."""

    @pytest.mark.parametrize("channel", channels.CHANNELS[1:], ids=lambda c: c.name, indirect=True)
    async def test_a_long_message_is_cut_and_keeps_its_link(
        self, sender: apprise.AppriseSender, channel: channels.Channel, receiver: receivers.Receiver
    ) -> None:
        await sender.send(outgoing(message("✓ succeeded", LONG)))
        [request] = receiver.requests
        decoded = json.loads(request.body)
        text = max((text for text in _strings(decoded)), key=len)
        limit = {"discord": 2000, "telegram": 4096, "ntfy": 4096, "mattermost": 4000}.get(channel.name, 40000)
        assert len(text.encode() if channel.name == "ntfy" else text) <= limit
        assert "https://cdn.test/out.mp4" in text
        assert text.rstrip().endswith("…") or len(LONG) < limit

    async def test_discord_calls_nobody(
        self, pool: apprise.ApprisePool, receiver: receivers.Receiver
    ) -> None:
        url = f"discord://4174216298/{channels.SECRET_PART}"
        await chat(pool, url).send(outgoing(message("@everyone", "hi @here <@123> a_b *c*")))
        content = receiver.requests[0].json["content"]  # type: ignore[index]
        assert not any(mention in content for mention in ("@everyone", "@here", "<@"))
        assert "a_b *c*" in content

    async def test_slack_and_telegram_get_text_not_markup(
        self, pool: apprise.ApprisePool, receiver: receivers.Receiver
    ) -> None:
        body = message("done", "<!channel> 1 < 2 & <b>bold</b>")
        receiver.answer = receivers.Answer(status=200, body=b"ok")
        await chat(pool, f"slack://T1JJ3T3L2/A1BRTD4JD/{channels.SECRET_PART}/#c").send(outgoing(body))
        receiver.answer = receivers.Answer(status=200, body=b'{"ok":true,"result":{}}')
        await chat(pool, f"tgram://123456789:{channels.SECRET_PART}/1").send(outgoing(body))
        slack, telegram = (request.body.decode() for request in receiver.requests)
        assert "<!channel>" not in slack
        assert "1 &lt; 2 &amp;" in slack
        assert "1 &lt; 2 &amp; &lt;b&gt;" in telegram

    async def test_a_mail_is_whole_and_mentions_are_left_alone(self, pool: apprise.ApprisePool) -> None:
        async with smtp.serve() as server:
            url = f"mailto://127.0.0.1:{server.port}/?from=relay@example.com&to=me@example.com&mode=insecure"
            await chat(pool, url).send(outgoing(message("✓ succeeded", "ask @bob & <co>\nsecond line")))
            [mail] = await server.wait_for(1)
        assert mail.message["Subject"] == "✓ succeeded"
        assert mail.recipients == ["me@example.com"]
        assert "ask @bob" in mail.text
        assert "second line" in mail.text

    async def test_a_service_that_says_no_in_a_200(
        self, pool: apprise.ApprisePool, receiver: receivers.Receiver
    ) -> None:
        receiver.answer = receivers.Answer(status=200, body=b'{"ok":false,"error":"channel_not_found"}')
        url = f"slack://xoxb-1234567890-1234567890-{channels.SECRET_PART}/#renders"
        with pytest.raises(errors.SendError) as caught:
            await chat(pool, url).send(outgoing(channels.BODY))
        assert caught.value.reason == "channel_not_found"
        assert caught.value.decision is errors.Decision.DISABLE

    async def test_waits_asked_for_in_the_body_are_told(
        self, pool: apprise.ApprisePool, receiver: receivers.Receiver
    ) -> None:
        receiver.answer = receivers.Answer(
            status=429, body=b'{"ok":false,"error_code":429,"parameters":{"retry_after":31}}'
        )
        with pytest.raises(errors.SendError) as caught:
            await chat(pool, f"tgram://123456789:{channels.SECRET_PART}/1").send(outgoing(channels.BODY))
        assert caught.value.retry_after == 31.0

    async def test_discord_is_not_asked_twice_by_its_plugin(
        self, pool: apprise.ApprisePool, receiver: receivers.Receiver
    ) -> None:
        limited = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800", "Retry-After": "9"}
        receiver.answer = receivers.Answer(status=429, headers=limited)
        with pytest.raises(errors.SendError) as caught:
            await chat(pool, f"discord://417421/{channels.SECRET_PART}").send(outgoing(channels.BODY))
        assert (caught.value.reason, caught.value.retry_after) == ("http_429", 9.0)
        assert len(receiver.requests) == 1


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []


class TestAddresses:
    """Every way out of a worker is guarded."""

    @pytest.mark.parametrize(
        "url",
        [
            "ntfy://127.0.0.1:{port}/topic",
            "ntfy://localhost:{port}/topic",
            "json://2130706433:{port}/",
            "mailto://127.0.0.1:{port}/?from=a@example.com&to=b@example.com&mode=insecure",
        ],
    )
    async def test_a_private_address_is_refused_and_never_dialled(
        self, shut_pool: apprise.ApprisePool, receiver: receivers.Receiver, url: str
    ) -> None:
        with pytest.raises(errors.AddressRefused) as caught:
            await chat(shut_pool, url.format(port=receiver.port)).send(outgoing(channels.BODY))
        assert caught.value.rule == "loopback"
        assert "loopback" in str(caught.value)
        assert receiver.connections == 0

    @pytest.mark.parametrize(
        ("public", "word", "told"),
        [
            (False, "hunter2_of_the_intranet", "withheld"),
            (False, "invalid_payload", "invalid_payload"),
            (True, "out_of_order", "out_of_order"),
        ],
    )
    async def test_of_what_a_private_peer_writes_only_known_words_are_told(
        self, receiver: receivers.Receiver, public: bool, word: str, told: str
    ) -> None:
        receiver.answer = receivers.Answer(status=500, body=json.dumps({"error": word}).encode())
        surroundings = apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",))
        initializer = prepared.prepare_among_public if public else apprise_jobs.prepare
        pool = apprise.ApprisePool(surroundings, seats=1, initializer=initializer)
        try:
            with pytest.raises(errors.SendError) as caught:
                await chat(pool, f"json://127.0.0.1:{receiver.port}/").send(outgoing(channels.BODY))
        finally:
            await pool.aclose()
        assert f"answered 500 ({told})" in str(caught.value)
        assert told == word or word not in str(caught.value)

    async def test_a_proxy_is_used_for_names_and_refuses_spelled_addresses(
        self, receiver: receivers.Receiver
    ) -> None:
        pool = apprise.ApprisePool(apprise_jobs.Surroundings(proxy=receiver.url), seats=1)
        try:
            receiver.answer = receivers.Answer(status=200)
            await chat(pool, "json://hooks.example/path").send(outgoing(channels.BODY))
            with pytest.raises(errors.AddressRefused) as caught:
                await chat(pool, "json://169.254.169.254/latest").send(outgoing(channels.BODY))
        finally:
            await pool.aclose()
        assert caught.value.rule == "metadata"
        [request] = receiver.requests
        assert request.path.startswith("http://hooks.example/path")


class TestWorkers:
    """They start when needed, are replaced when killed, and none is left behind."""

    async def test_six_that_trickle_do_not_hold_up_the_seventh(self) -> None:
        pool = apprise.ApprisePool(apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)))
        assert (pool.capacity.seats, pool.capacity.seats_hanging) == (8, 4)
        async with receivers.serve() as slow, receivers.serve() as healthy:
            slow.answer = receivers.Answer(status=200, manner=receivers.Manner.TRICKLE_HEAD)
            healthy.answer = receivers.Answer(status=200)
            stuck = chat(pool, f"ntfy://127.0.0.1:{slow.port}/topic", timeout=60.0)
            tasks = [asyncio.create_task(stuck.send(outgoing(channels.BODY))) for _ in range(6)]
            await slow.wait_for(6)
            await chat(pool, f"ntfy://127.0.0.1:{healthy.port}/topic").send(outgoing(channels.BODY))
            assert not any(task.done() for task in tasks)
            async with asyncio.timeout(10):
                await pool.aclose()
            await slow.wait_until_dropped(6)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(errors.SendError, match="no worker"):
            await stuck.send(outgoing(channels.BODY))

    async def test_a_worker_that_is_killed_is_replaced(self, receiver: receivers.Receiver) -> None:
        pool = apprise.ApprisePool(apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)), seats=1)
        before = workers()
        try:
            sender = chat(pool, f"ntfy://127.0.0.1:{receiver.port}/topic")
            receiver.answer = receivers.Answer(status=200)
            await sender.send(outgoing(channels.BODY))
            [worker] = workers() - before
            receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
            sending = asyncio.create_task(sender.send(outgoing(channels.BODY)))
            await receiver.wait_for(2)
            os.kill(worker, signal.SIGTERM)  # ignored
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(errors.SendError) as caught:
                await sending
            assert (caught.value.reason, caught.value.decision) == ("worker_died", errors.Decision.UNKNOWN)
            assert not caught.value.charged
            receiver.answer = receivers.Answer(status=200)
            await sender.send(outgoing(channels.BODY))
            # One that is killed while idle breaks the pool, which is then replaced.
            [idle] = workers() - before
            os.kill(idle, signal.SIGKILL)
            await until(lambda: idle not in workers())
            await delivered(sender)
        finally:
            await pool.aclose()
        assert workers() == before

    async def test_a_send_that_found_no_worker_was_not_sent(self, receiver: receivers.Receiver) -> None:
        pool = apprise.ApprisePool(apprise_jobs.Surroundings(allow_private=("127.0.0.0/8",)), seats=1)
        try:
            receiver.answer = receivers.Answer(manner=receivers.Manner.HANG)
            hanging = chat(pool, f"ntfy://127.0.0.1:{receiver.port}/topic")
            sending = asyncio.create_task(hanging.send(outgoing(channels.BODY)))
            await receiver.wait_for(1)
            late = chat(pool, f"ntfy://127.0.0.1:{receiver.port}/topic", timeout=0.3)
            with pytest.raises(errors.SendError) as caught:
                await late.send(outgoing(channels.BODY))
            assert (caught.value.reason, caught.value.hung) == ("no_worker", False)
            assert not caught.value.charged
            assert caught.value.decision is errors.Decision.RETRY
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        finally:
            await pool.aclose()
        assert len(receiver.requests) == 1

    async def test_none_survives_a_daemon_that_is_killed(self) -> None:
        async with receivers.serve() as slow:
            slow.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
            url = f"ntfy://127.0.0.1:{slow.port}/topic"
            daemon = await lone_daemon({"urls": [url, url], "limit": LIMIT})
            await slow.wait_for(2)
            assert len(session(daemon.pid)) >= 4
            daemon.kill()
            await daemon.wait()
            await until(lambda: not session(daemon.pid), timeout=LIMIT + 2.0 + 10.0)

    async def test_none_survives_a_daemon_that_ends(self) -> None:
        async with receivers.serve() as slow:
            slow.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
            daemon = await lone_daemon({"urls": [f"ntfy://127.0.0.1:{slow.port}/topic"], "limit": LIMIT})
            assert daemon.stdout is not None
            assert json.loads(await daemon.stdout.read()) == ["timeout"]
            assert await daemon.wait() == 0
            await until(lambda: not session(daemon.pid))

    async def test_the_environment_is_not_obeyed(self, tmp_path: Path) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
        netrc.chmod(0o600)
        hostile = {
            "HOME": str(tmp_path),
            "NETRC": str(netrc),
            "http_proxy": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "REQUESTS_CA_BUNDLE": "/nonexistent",
        }
        async with receivers.serve() as receiver:
            receiver.answer = receivers.Answer(status=200)
            daemon = await lone_daemon(
                {"urls": [f"json://127.0.0.1:{receiver.port}/"], "limit": 10.0}, hostile
            )
            assert daemon.stdout is not None
            assert json.loads(await daemon.stdout.read()) == ["delivered"]
            await daemon.wait()
        assert "authorization" not in receiver.requests[0].headers


async def lone_daemon(
    config: dict[str, object], environment: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    """A process in a session of its own, so that what it leaves behind can be found."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("lone_daemon.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})},
        start_new_session=True,
    )
    assert daemon.stdin is not None
    daemon.stdin.write(json.dumps(config).encode())
    daemon.stdin.close()
    return daemon


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def session(leader: int) -> list[int]:
    """Living processes of the session of ``leader``."""
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in everyone if (s := _stat(pid)) and s[3] == str(leader) and s[0] != "Z"]


def workers() -> set[int]:
    """Processes forked by fork servers of this process."""
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {pid: int(s[1]) for pid in everyone if (s := _stat(pid)) and s[0] != "Z"}
    return {pid for pid, parent in parents.items() if parents.get(parent) == os.getpid()}


async def until(fact: Callable[[], bool], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not fact():
            await asyncio.sleep(0.02)


async def delivered(sender: apprise.AppriseSender) -> None:
    """Send until a worker was there for it."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                await sender.send(outgoing(channels.BODY))
            except errors.SendError as error:
                if error.reason not in ("no_worker", "worker_died"):
                    raise
            else:
                return


class TestRecognising:
    """What Apprise makes of URLs."""

    async def test_a_chat_services_own_address_is_recognised(self) -> None:
        urls = {
            "slack": f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{channels.SECRET_PART}",
            "discord": f"https://discord.com/api/webhooks/4174216298/{channels.SECRET_PART}",
            "own": "https://example.com/hooks/render",
            "own_port": "https://user:pass@example.com:8443/hooks?x=1",
            "local": "http://127.0.0.1:8080/hooks",
        }
        assert await recognise.recognise(urls) == {
            "slack": "slack",
            "discord": "discord",
            "own": None,
            "own_port": None,
            "local": None,
        }

    @pytest.mark.parametrize(
        ("url", "askable"),
        [
            ("https://hooks.slack.com/x", True),
            ("http://127.0.0.1/x", False),
            ("http://2130706433/x", False),
            ("http://[::1]/x", False),
            ("http://localhost:80/x", False),
            ("http://a.localhost/x", False),
            ("http://receiver/x", False),
            ("slack://a/b/c", False),
            ("https://[broken", False),
        ],
    )
    def test_only_names_are_asked_about(self, url: str, askable: bool) -> None:
        assert recognise.askable(url) is askable

    @pytest.mark.parametrize("argument", sorted(schemes.REFUSED_ARGUMENTS))
    def test_no_refused_argument_gets_past_a_worker(self, argument: str) -> None:
        from relay.senders import apprise_worker

        encoded = f"%{ord(argument[0]):x}{argument[1:]}"
        for spelled in (argument, argument.upper(), encoded, f"%20{argument}", encoded.replace("%", "%25")):
            for separator in ("?", "?a=b&", "?a=b;"):
                finding = apprise_worker.find(f"json://127.0.0.1/{separator}{spelled}=x")
                assert finding.problem is not None
                assert f"argument {argument} is not allowed" in finding.problem

    async def test_findings_say_what_is_wrong(self) -> None:
        found = await recognise.examine(
            {
                "fine": "mailto://u:p@example.com/?to=a@example.com",
                "twice": "json://a.example,json://b.example",
                "token": "slack://wrong",
                "local": "syslog://",
                "library": "amqp://user:password@example.com/queue",
            }
        )
        assert (found["fine"].scheme, found["fine"].problem) == ("mailto", None)
        assert found["twice"].problem == "one destination has one URL"
        assert "missing or malformed" in str(found["token"].problem)
        assert "wrong" not in str(found["token"].problem)
        assert "acts on the machine" in str(found["local"].problem)
        assert "is not a scheme that relay sends to" in str(found["library"].problem), "none is installed"
        assert (await recognise.check("ntfy://127.0.0.1/t")).service == "ntfy"

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from(["json", "slack", "mailto", "tgram", "discord", "ntfy", "matrix", "https"]),
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60),
    )
    def test_no_url_makes_it_raise(self, scheme: str, rest: str) -> None:
        from relay.senders import apprise_worker

        assert isinstance(apprise_worker.find(f"{scheme}://{rest}"), apprise_jobs.Finding)

    def test_every_allowed_scheme_is_one_of_apprise_and_none_is_local(self) -> None:
        from apprise import manager_plugins

        services = manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]
        known = set(services.schemas())  # type: ignore[no-untyped-call]
        assert known >= schemes.ALLOWED
        assert not schemes.ALLOWED & schemes.LOCAL

    def test_formats(self, pool: apprise.ApprisePool) -> None:
        sender = chat(pool, "ntfy://127.0.0.1/t")
        assert (sender.format, sender.address, sender.concurrency) == (model.Format.CHAT, "ntfy://", 1)
