"""What stands between Apprise's plugins and the network, file system included, when nothing else would."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.domain import errors
from relay.senders import apprise, apprise_jobs, dialling, network, schemes, webhook
from tests.fakes import dialling as recording
from tests.senders import channels
from tests.senders.conftest import KEY, outgoing

ATTEMPTS = r"""
import asyncio, json, socket, sys
from relay.senders import apprise_guard, apprise_jobs

reach = apprise_jobs.Reach(sys.argv[1])
apprise_jobs.prepare(apprise_jobs.Surroundings(allow_private=json.loads(sys.argv[2]), reach=reach))
dialled = []

def record(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        dialled.append(str(args[1]))

sys.addaudithook(record)

def tcp(family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_STREAM)

def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

async def looped():
    with tcp() as s:
        s.setblocking(False)
        await asyncio.get_running_loop().sock_connect(s, ("127.0.0.1", PORT))

PORT = int(sys.argv[3])
ways = {
    "connect": lambda: tcp().connect(("127.0.0.1", PORT)),
    "connect_ex": lambda: tcp().connect_ex(("127.0.0.1", PORT)),
    "name": lambda: tcp().connect(("localhost", PORT)),
    "short": lambda: tcp().connect(("127.1", PORT)),
    "empty": lambda: tcp().connect(("", PORT)),
    "v6": lambda: tcp(socket.AF_INET6).connect(("::1", PORT)),
    "mapped": lambda: tcp(socket.AF_INET6).connect(("::ffff:127.0.0.1", PORT)),
    "create_connection": lambda: socket.create_connection(("127.0.0.1", PORT)),
    "sendto": lambda: udp().sendto(b"x", ("127.0.0.1", PORT)),
    "sendmsg": lambda: udp().sendmsg([b"x"], [], 0, ("127.0.0.1", PORT)),
    "unix": lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"),
    "abstract": lambda: socket.socket(socket.AF_UNIX).connect(b"\0docker"),
    "loop": lambda: asyncio.run(looped()),
    "old": lambda: tcp().connect((socket.gethostbyname("localhost"), PORT)),
}
said = {}
for name, way in ways.items():
    apprise_guard.begin()
    try:
        way()
        said[name] = "dialled"
    except OSError as error:
        said[name] = type(error).__name__
    said[name] += f" {apprise_guard.notes.rule}"
print(json.dumps([said, dialled]))
"""


def attempts(reach: apprise_jobs.Reach, allow_private: list[str]) -> tuple[dict[str, str], list[str]]:
    """What became of each way to connect, and what was let through, in a process that is a worker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = [sys.executable, "-c", ATTEMPTS, reach, json.dumps(allow_private), str(port)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    said, dialled = json.loads(done.stdout)
    return said, dialled


def test_whoever_dials_in_a_worker_is_judged() -> None:
    said, dialled = attempts(apprise_jobs.Reach.DIAL, [])
    unreadable = {"name", "short", "empty", "unix", "abstract"}
    assert said == {name: "Blocked unreadable" if name in unreadable else "Blocked loopback" for name in said}
    assert dialled == []


def test_a_worker_that_only_looks_dials_nothing_that_is_allowed_either() -> None:
    said, dialled = attempts(apprise_jobs.Reach.RESOLVE, ["127.0.0.0/8", "::1/128"])
    assert all(outcome.startswith("Blocked") for outcome in said.values()), said
    assert dialled == []


def test_the_attempts_would_get_through_where_they_are_allowed() -> None:
    said, dialled = attempts(apprise_jobs.Reach.DIAL, ["127.0.0.0/8"])
    assert said["connect"] == said["sendto"] == said["create_connection"] == "dialled None"
    assert len(dialled) >= 6


def lie(surroundings: apprise_jobs.Surroundings, *, log: Path, seen: Path) -> None:
    """A worker in which what was judged is not what is dialled, as if a name changed in between."""
    recording.prepare(surroundings, log=log, seen=seen)
    judged = socket.getaddrinfo

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        judged(*args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

    socket.getaddrinfo = getaddrinfo


async def test_an_address_that_was_not_judged_is_not_dialled_by_chat(tmp_path: Path) -> None:
    prepare = functools.partial(lie, log=tmp_path / "dialled", seen=tmp_path / "asked")
    pool = apprise.ApprisePool(apprise_jobs.Surroundings(), seats=1, initializer=prepare)
    try:
        for url in (
            "json://public.test/",
            "mailto://public.test/?from=a@b.example&to=c@d.example&mode=insecure",
        ):
            sender = apprise.AppriseSender("renders", url=url, scheme="json", pool=pool)
            with pytest.raises(errors.AddressRefused) as caught:
                await sender.send(outgoing(channels.BODY))
            assert caught.value.rule == "private"
    finally:
        await pool.aclose()
    assert not (tmp_path / "dialled").exists()


async def test_an_address_that_was_not_judged_is_not_dialled_by_webhooks(tmp_path: Path) -> None:
    """The socket is judged on its own, whatever the resolver let through."""
    net = recording.Net(tmp_path)
    client = webhook.WebhookClient(network.AddressPolicy(), ways=net.ways)
    client.resolver._policy = network.AddressPolicy(["0.0.0.0/0"])
    try:
        sender = webhook.WebhookSender(
            "w", url=webhook.parse_url("http://private.test/"), keys=[KEY], client=client
        )
        with pytest.raises(errors.AddressRefused) as caught:
            await sender.send(outgoing(channels.WEBHOOK_BODY))
    finally:
        await client.aclose()
    assert caught.value.rule == "private"
    assert net.dialled() == []


def test_the_systems_sockets_are_what_is_used_by_default() -> None:
    with dialling.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


class TestFiles:
    """No URL makes a plugin read a file of this machine, or fetch one from another."""

    HARMLESS = frozenset({"filename", "attach-as", "file_url", "profile"})
    """A name to show, that of a form's field, a URL that the service itself fetches, and no file at all."""

    def test_every_argument_that_names_one_is_refused(self) -> None:
        """Found by what Apprise says of its plugins, so that a new one cannot slip in."""
        from relay.senders import apprise_worker

        suspicious = ("file", "attach", "template", "pgp", "pem", "cert", "path_")
        found: set[str] = set()
        for scheme in schemes.ALLOWED:
            arguments = apprise_worker._services[scheme].template_args
            found |= {name for name in arguments if any(word in name.lower() for word in suspicious)}
        assert found > {"keyfile", "subfile", "template", "attach"}
        assert found - self.HARMLESS <= schemes.REFUSED_ARGUMENTS

    def test_and_nothing_is_read_where_one_was_overlooked(self, tmp_path: Path) -> None:
        from relay.senders import apprise_worker

        secret = tmp_path / "secret.json"
        secret.write_text('{"text": "planted"}')
        attached = apprise_worker.apprise.AppriseAttachment()
        assert attached.add(str(secret)) is False
        assert attached.add("https://example.com/file") is False
        assert len(attached) == 0

    @pytest.mark.parametrize(
        "url",
        [
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#c?template=/etc/passwd",
            "https://discord.com/api/webhooks/4174216298/kX3vSecretPartOfTheUrl9Q?TEMPLATE=/etc/passwd",
            "tgram://123456789:abcdefghijklmnopqrstuvwxyzABCDEFGHI/1/?te%6Dplate=/etc/passwd",
            "fcm://project@APIKEY/DEVICE?keyfile=/etc/passwd",
            "vapid://me@example.com/you?subfile=/etc/passwd&keyfile=/etc/passwd",
            "mailto://u:p@example.com?pgp=yes&pgpkey=/etc/passwd",
            "ntfy://example.com/topic?attach=file:///etc/passwd",
            "workflows://example.com/w/s?template=/etc/passwd",
        ],
    )
    def test_urls_that_name_one_are_refused_with_the_argument(self, url: str) -> None:
        from relay.senders import apprise_worker

        problem = apprise_worker.find(url).problem
        assert problem is not None
        assert "the URL argument " in problem
        assert "is not allowed" in problem
        assert "passwd" not in problem
