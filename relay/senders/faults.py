"""Which failures on the way are relay's own: no way out, nothing left to open a connection with. Pure.

They are retried like the peer's, but they are not charged to the destination: when the machine has
lost its network, every destination fails at once, and none of them is to blame.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from relay.senders import apprise_jobs

_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""The kernel has no route or no address for it, or a firewall of this machine forbids it.

``EHOSTUNREACH`` is not among them: a router says it of a host that is down.
"""

_NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NO_SUCH_NAME: Final = frozenset(
    {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME), socket.EAI_SERVICE}
)
"""A definite answer. Every other failed lookup may be the resolver's: it did not answer, or not in time."""


def own(error: BaseException) -> apprise_jobs.Fault | None:
    """The fault that is relay's own, or ``None`` when the peer is to blame, or nobody can tell."""
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return None  # the numbers of TLS errors are OpenSSL's
    if isinstance(error, socket.gaierror):
        return None if error.errno in _NO_SUCH_NAME else apprise_jobs.Fault.DNS_UNAVAILABLE
    if error.errno in _NO_ROUTE:
        return apprise_jobs.Fault.NO_ROUTE
    return apprise_jobs.Fault.NO_RESOURCES if error.errno in _NO_RESOURCES else None
