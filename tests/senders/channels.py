"""The channels that the contract is run on: how each is reached on loopback and what it accepts.

Services whose host is not in the URL get it from ``workers.patch_hosts``, run in the worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes import receivers

SECRET_PART = "kX3vSecretPartOfTheUrl9Q"
"""In the URL of every channel; must never be shown."""

BODY = json.dumps(
    {"title": "✓ veo3-fast succeeded", "text": "Output: https://cdn.test/out.mp4\nTook 41 s"}
).encode()
WEBHOOK_BODY = b'{"type":"task.succeeded","timestamp":"2026-11-23T00:00:00Z","data":{"task_id":"t1"}}'


@dataclass(frozen=True)
class Channel:
    """One kind of destination. ``url`` takes the port of the receiver; ``tls``: it is https only."""

    name: str
    url: Callable[[int], str]
    success: receivers.Answer
    chat: bool = True
    tls: bool = False

    @property
    def body(self) -> bytes:
        """What is sent."""
        return BODY if self.chat else WEBHOOK_BODY


def _answer(status: int, body: bytes = b"") -> receivers.Answer:
    return receivers.Answer(status=status, body=body)


CHANNELS = [
    Channel(
        "webhook",
        lambda port: f"http://127.0.0.1:{port}/hooks/{SECRET_PART}",
        _answer(204),
        chat=False,
    ),
    Channel(
        "slack_webhook",
        lambda port: f"slack://T1JJ3T3L2/A1BRTD4JD/{SECRET_PART}/#renders",
        _answer(200, b"ok"),
    ),
    Channel(
        "slack_bot",
        lambda port: f"slack://xoxb-1234567890-1234567890-{SECRET_PART}/#renders",
        _answer(200, b'{"ok": true, "channel": "C123"}'),
    ),
    Channel("discord", lambda port: f"discord://4174216298/{SECRET_PART}", _answer(204)),
    Channel(
        "telegram",
        lambda port: f"tgram://123456789:{SECRET_PART}/12315544",
        _answer(200, b'{"ok": true, "result": {}}'),
    ),
    Channel("ntfy", lambda port: f"ntfy://127.0.0.1:{port}/{SECRET_PART}", _answer(200, b'{"id": "x"}')),
    Channel(
        "mattermost", lambda port: f"mmost://127.0.0.1:{port}/{SECRET_PART.lower()}", _answer(200, b"ok")
    ),
    Channel(
        "teams",
        lambda port: f"workflows://127.0.0.1:{port}/workflow/{SECRET_PART}",
        _answer(202),
        tls=True,
    ),
    Channel("gotify", lambda port: f"gotify://127.0.0.1:{port}/{SECRET_PART}", _answer(200, b"{}")),
]
