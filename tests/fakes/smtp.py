"""A real SMTP server on loopback (aiosmtpd): STARTTLS and login where asked for, refusals on demand.

    async with smtp.serve(tls=context, login=("user", "password")) as server:
        ... send mail to 127.0.0.1:server.port ...
        [mail] = await server.wait_for(1)

``server.refusals`` maps a command (``MAIL``, ``RCPT``, ``DATA``) to the line answered to it, such as
``{"RCPT": "550 no such user"}``; ``server.hang_on`` names a command that is never answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd import smtp as aiosmtpd


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
    hang_on: str | None = None
    connections: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, count: int, *, timeout: float = 10.0) -> list[Mail]:
        """The mails, as soon as there are ``count`` of them."""
        async with asyncio.timeout(timeout):
            while len(self.mails) < count:
                self._news.clear()
                await self._news.wait()
        return self.mails

    async def _answer(self, command: str) -> str | None:
        if self.hang_on == command:
            await self._closing.wait()
        return self.refusals.get(command)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self,
        server: aiosmtpd.SMTP,
        session: aiosmtpd.Session,
        envelope: aiosmtpd.Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """aiosmtpd's hook for MAIL FROM."""
        refusal = await self._answer("MAIL")
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
        refusal = await self._answer("RCPT")
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: aiosmtpd.SMTP, session: aiosmtpd.Session, envelope: aiosmtpd.Envelope
    ) -> str:
        """aiosmtpd's hook for the mail itself."""
        refusal = await self._answer("DATA")
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
        expected = aiosmtpd.LoginPassword(login[0].encode(), login[1].encode())
        # Not handled: aiosmtpd itself then answers 535.
        return aiosmtpd.AuthResult(success=data == expected, handled=False, auth_data=data)

    def accept() -> aiosmtpd.SMTP:
        server.connections += 1
        with warnings.catch_warnings():
            # It warns of a login without TLS, which tests of refusals use.
            warnings.simplefilter("ignore")
            return aiosmtpd.SMTP(
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
