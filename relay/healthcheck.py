"""The container's health check: is the daemon beside this process doing its work?

`python -m relay.healthcheck` asks `/readyz` of the daemon on this machine and exits 0 (ready) or 1, with
one line that says why not. Readiness is progress, so a daemon whose loops stand still is noticed. It reads
nothing but `RELAY_SERVER__HOST` and `RELAY_SERVER__PORT`. It must never import more than the standard
library (it starts every few seconds) and never leaves the machine: proxies are not used, redirects not
followed. The answer comes from `relay/web/`.
"""

import http.client
import os
import sys
from collections.abc import Mapping

_TIMEOUT = 3.0
"""Seconds for each step of the exchange; under the 5 s that the Dockerfile allows for the whole check."""

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - dialled, never bound
"""Where a daemon answers that listens on every address."""


def problem(env: Mapping[str, str]) -> str | None:
    """Asks the daemon that `env` describes. None when it is ready, else one line saying what is wrong."""
    host = env.get("RELAY_SERVER__HOST", "")
    host = _LOOPBACK.get(host, host)
    port = env.get("RELAY_SERVER__PORT", "8080")
    if not port.isdecimal() or int(port) > 65535:
        return "RELAY_SERVER__PORT is not a port number"
    connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {host} port {port}: {type(error).__name__}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"/readyz answered {status}"


def main() -> int:
    """Returns the exit code: 0 when the daemon is ready, 1 when it is not, with the reason on stderr."""
    reason = problem(os.environ)
    if reason is None:
        return 0
    sys.stderr.write(f"unhealthy: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
