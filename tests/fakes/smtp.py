"""A real SMTP server on loopback (aiosmtpd): STARTTLS and login where asked for, refusals on demand.

    async with smtp.serve(tls=context, login=("user", "password")) as server:
        ... send mail to 127.0.0.1:server.port ...
        [mail] = await server.wait_for(1)

``server.refusals`` maps a command (``GREETING``, ``AUTH``, ``MAIL``, ``RCPT``, ``DATA``) to the line
answered to it, such as ``{"RCPT": "550 no such user"}``; ``server.manners`` maps ``GREETING``, ``MAIL``,
``RCPT`` or ``DATA`` to how it is answered badly.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd import smtp as aiosmtpd

from tests.fakes.receivers import OVERSIZE_BYTES, TRICKLE_PAUSE, Manner


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One accepted mail."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    user: str | None

    @property
    def text(self) -> str:
        """The body as it reads, of the plain part where there is one."""
        part = self.message.get_body(("plain", "html"))
        return part.get_content() if part is not None else ""


@dataclass
class Server:
    """See the module. Made by ``serve``."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    manners: dict[str, Manner] = field(default_factory=dict)
    connections: int = 0
    ended: int = 0
    asked: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, count: int, *, timeout: float = 10.0) -> list[Mail]:
        """The mails, as soon as there are ``count`` of them."""
        await self._until(lambda: len(self.mails) >= count, timeout)
        return self.mails

    async def wait_until_asked(self, command: str, *, timeout: float = 10.0) -> None:
        """Return once ``command`` has come."""
        await self._until(lambda: command in self.asked, timeout)

    async def wait_until_ended(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Return once ``count`` connections have ended."""
        await self._until(lambda: self.ended >= count, timeout)

    async def _until(self, fact: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            while not fact():
                self._news.clear()
                await self._news.wait()

    async def answer(self, command: str, connection: aiosmtpd.SMTP) -> str | None:
        """Behave badly where told to; else the refusal, or ``None``."""
        self.asked.append(command)
        self._news.set()
        manner, transport = self.manners.get(command, Manner.PLAIN), connection.transport
        if manner is Manner.PLAIN:
            return self.refusals.get(command)
        assert isinstance(transport, asyncio.Transport)
        if manner is Manner.GARBAGE:
            transport.write(b"\x00\x01 this is no SMTP\r\n")
        elif manner is Manner.OVERSIZE:
            transport.write(b"2" * OVERSIZE_BYTES + b"\r\n")
        try:
            while manner in (Manner.HANG, Manner.TRICKLE) and not self._closing.is_set():
                if manner is Manner.TRICKLE:
                    transport.write(b"2")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TRICKLE_PAUSE):
                        await self._closing.wait()
        finally:
            # aiosmtpd would leave a connection half open when its peer is gone.
            transport.abort() if manner is Manner.RESET else transport.close()
        return "421 never told"

    def lost(self) -> None:
        """A connection has ended."""
        self.ended += 1
        self._news.set()

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self,
        server: aiosmtpd.SMTP,
        session: aiosmtpd.Session,
        envelope: aiosmtpd.Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """aiosmtpd's hook for MAIL FROM."""
        refusal = await self.answer("MAIL", server)
        if refusal is None:
            envelope.mail_from = address
        return refusal or "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: aiosmtpd.SMTP,
        session: aiosmtpd.Session,
        envelope: aiosmtpd.Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """aiosmtpd's hook for RCPT TO."""
        refusal = await self.answer("RCPT", server)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: aiosmtpd.SMTP, session: aiosmtpd.Session, envelope: aiosmtpd.Envelope
    ) -> str:
        """aiosmtpd's hook for the mail itself."""
        refusal = await self.answer("DATA", server)
        if refusal is not None:
            return refusal
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        login = session.auth_data
        self.mails.append(
            Mail(
                sender=envelope.mail_from or "",
                recipients=list(envelope.rcpt_tos),
                message=message,
                encrypted=session.ssl is not None,
                user=login.login.decode() if isinstance(login, aiosmtpd.LoginPassword) else None,
            )
        )
        self._news.set()
        return "250 OK"


class _Connection(aiosmtpd.SMTP):
    """aiosmtpd's, with a greeting that can be told."""

    greeted = False

    async def push(self, status: str | bytes) -> None:
        """Answer a line; the very first is the greeting."""
        if not self.greeted:
            self.greeted = True
            status = await self.event_handler.answer("GREETING", self) or status
        await super().push(status)

    def connection_lost(self, error: Exception | None) -> None:
        """Told by asyncio."""
        super().connection_lost(error)
        self.event_handler.lost()


@contextlib.asynccontextmanager
async def serve(
    *, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> AsyncIterator[Server]:
    """A mail server on 127.0.0.1. With ``tls`` STARTTLS is required, with ``login`` authentication is."""
    server = Server()

    def authenticate(
        _server: object, _session: object, _envelope: object, _mechanism: str, data: object
    ) -> aiosmtpd.AuthResult:
        assert login is not None
        refusal = server.refusals.get("AUTH")
        if refusal is not None:
            return aiosmtpd.AuthResult(success=False, handled=False, message=refusal)
        expected = aiosmtpd.LoginPassword(login[0].encode(), login[1].encode())
        # Not handled: aiosmtpd itself then answers 535.
        return aiosmtpd.AuthResult(success=data == expected, handled=False, auth_data=data)

    def accept() -> aiosmtpd.SMTP:
        server.connections += 1
        with warnings.catch_warnings():
            # It warns of a login without TLS, which tests of refusals use.
            warnings.simplefilter("ignore")
            return _Connection(
                server,
                tls_context=tls,
                require_starttls=tls is not None,
                authenticator=authenticate if login else None,
                auth_required=login is not None,
                auth_require_tls=tls is not None,
                hostname="mail.test",
            )

    listening = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server._closing.set()
        listening.close()
        await listening.wait_closed()
