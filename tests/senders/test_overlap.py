"""Secrets that were rotated: for how long the former one signs beside the new one."""

from __future__ import annotations

import time

import pytest
import standardwebhooks
import yarl

from relay.senders import signing, webhook
from tests.fakes import receivers
from tests.senders.channels import WEBHOOK_BODY
from tests.senders.conftest import KEY, outgoing

OLD_KEY = bytes(range(100, 132))


async def test_a_former_secret_signs_until_its_end_and_no_longer(
    receiver: receivers.Receiver, client: webhook.WebhookClient
) -> None:
    now = time.time()
    sender = webhook.WebhookSender(
        "w",
        url=yarl.URL(receiver.url),
        keys=[KEY, OLD_KEY],
        ends=[None, now + 2.0],
        client=client,
        now=lambda: now,
    )
    former = standardwebhooks.Webhook(signing.format_secret(OLD_KEY))
    for later in (0.0, 1.9, 0.2):
        now += later
        await sender.send(outgoing(WEBHOOK_BODY))
    *before, after = receiver.requests
    for request in before:
        former.verify(request.body, request.headers, json_parse=False)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        former.verify(after.body, after.headers, json_parse=False)
    standardwebhooks.Webhook(signing.format_secret(KEY)).verify(after.body, after.headers, json_parse=False)
