"""What holds in every acceptance test: whatever webhook arrives is verified by Standard Webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import standardwebhooks

from tests import harness
from tests.fakes import receivers


class SigningSecrets(set[str]):
    """Those that a webhook of this test may be signed with; a test that makes others adds them."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise unless one of them signed it."""
        for secret in self:
            try:
                standardwebhooks.Webhook(secret).verify(body, dict(headers))
            except standardwebhooks.WebhookVerificationError:
                continue
            return
        raise AssertionError(f"a webhook that no secret of the test signed: {headers!r} {body!r}")


@pytest.fixture(autouse=True)
def signing_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningSecrets]:
    """Checked once the test is over, for all its receivers; what is no webhook bears no signature.

    The library knows nothing of ``v1a``: a webhook signed with that alone is left to the sender's tests.
    """
    made: list[receivers.Receiver] = []

    class Noted(receivers.Receiver):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(receivers, "Receiver", Noted)
    secrets = SigningSecrets([harness.SECRET])
    yield secrets
    for receiver in made:
        for request in receiver.requests:
            signature = request.headers.get("webhook-signature", "")
            if "webhook-id" in request.headers and not signature.startswith("v1a,"):
                secrets.verify(request.headers, request.body)
