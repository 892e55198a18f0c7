"""``relay`` on a machine whose resolver does not answer for some names (``tests/fakes/names.py``).

python -m tests.acceptance.deaf serve --config CONFIG
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from relay import cli
from tests.fakes import names


class Telling(names.Names):
    """Says on stderr what is asked for."""

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        """As ``socket.getaddrinfo``."""
        print(f"asked for {host}", file=sys.stderr, flush=True)
        return super().getaddrinfo(host, port, *args, **options)


if __name__ == "__main__":
    socket.getaddrinfo = Telling().getaddrinfo
    sys.exit(cli.run(sys.argv[1:]))
