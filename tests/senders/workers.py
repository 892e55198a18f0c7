"""What test workers do in addition to the product's: services with a fixed host reach loopback."""

from __future__ import annotations

from pathlib import Path

from relay.senders import apprise_jobs

HOSTS = {
    # service: attribute with its address, path that belongs to it
    "slack": [("webhook_url", "/services"), ("api_url", "/api/{}")],
    "discord": [("notify_url", "/api/webhooks")],
    "tgram": [("notify_url", "/bot")],
}


def prepare(surroundings: apprise_jobs.Surroundings, *, address_file: Path) -> None:
    """The product's set-up, then hosts read from ``address_file`` whenever they are used."""
    apprise_jobs.prepare(surroundings)
    from apprise import manager_plugins

    services = manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]
    for scheme, attributes in HOSTS.items():
        for attribute, path in attributes:
            setattr(services[scheme], attribute, _Address(address_file, path))


def prepare_among_public(surroundings: apprise_jobs.Surroundings) -> None:
    """The product's set-up, and loopback counts as public."""
    apprise_jobs.prepare(surroundings)
    from relay.senders import apprise_guard, network

    apprise_guard._PUBLIC = network.AddressPolicy(["127.0.0.0/8"])  # type: ignore[misc]


class _Address:
    def __init__(self, address_file: Path, path: str) -> None:
        self._file = address_file
        self._path = path

    def __get__(self, instance: object, owner: type) -> str:
        return self._file.read_text() + self._path
