"""Every error that relay raises on purpose, and the decision that each carries.

    RelayError
    ├── ConfigurationError          unusable configuration: exit 2
    │   ├── SecretUnreadable        no key opens the secrets in the database
    │   └── DestinationRefused      a destination's URL, secret, headers … cannot be used
    │       └── SecretMissing       a webhook that nothing signs
    ├── StoreError
    │   ├── StoreUnavailable        cannot open, write or lock the database
    │   ├── StoreRejected           the database works, but will not take this value
    │   ├── SchemaTooNew            the database was written by a newer relay
    │   └── SchemaChanged           an applied migration is not the one shipped here
    ├── UpstreamError               asking an upstream failed
    │   ├── UpstreamTransient       ask again later (network, 408, 425, 429, 5xx, unreadable body)
    │   ├── UpstreamUnauthorized    401 or 403: the credential is paused
    │   ├── TaskNotFound            the task endpoint answers 404
    │   └── UpstreamRejected        a definite refusal of this request (other 4xx)
    ├── SendError                   telling a destination failed
    │   └── AddressRefused          the receiver's address may not be dialled
    └── RequestRefused              what a caller asks for cannot be done: 422, with a JSON pointer
        ├── DestinationReadOnly     the destination belongs to the configuration: 409
        ├── DestinationExists       there is a destination of that name: 409
        ├── IdempotencyConflict     the caller's key came before, with another input: 409
        ├── WrongState              it is in a state that does not allow this: 409
        └── SubmissionUnresolved    no definite answer to a create in time: 504

Who raises decides what it means; who catches has one ``except`` and reads the attributes.
No message may hold a secret: destinations are shown by name and host, never by URL.
"""

from __future__ import annotations

from enum import StrEnum

from relay.domain import reasons


class RelayError(Exception):
    """Base of the errors below. ``str()`` is one line, fit for a user, without secrets."""


class ConfigurationError(RelayError):
    """The configuration cannot be used. The text names the key and what to do."""


class SecretUnreadable(ConfigurationError):
    """What was encrypted cannot be read: another ``secret_key``, or none."""


class DestinationRefused(ConfigurationError):
    """The destination ``name`` cannot be used. ``part`` is its member at fault, such as ``url``.

    ``problem`` says what to do without naming the destination, which ``str()`` does.
    """

    def __init__(self, name: str, part: str, problem: str) -> None:
        super().__init__(f"destinations.{name}.{part}: {problem}")
        self.name = name
        self.part = part
        self.problem = problem


class SecretMissing(DestinationRefused):
    """A webhook has neither a secret nor a signing key. Whoever may make one does."""


class StoreError(RelayError):
    """The database cannot do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, locked or written."""


class StoreRejected(StoreError):
    """The database works but refused this very value, and would again. Nothing of it was stored."""


class SchemaTooNew(StoreError):
    """The database holds migrations that this version does not know."""


class SchemaChanged(StoreError):
    """A migration that was applied differs from the one shipped with this version."""


class UpstreamError(RelayError):
    """Asking an upstream failed.

    ``reason`` is a short snake_case word (a metric label), ``status_code`` the HTTP status or
    ``None`` when there was no answer, ``retry_after`` seconds or ``None``, ``problem`` the
    upstream's own JSON error body (bounded, decoded) or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        status_code: int | None = None,
        retry_after: float | None = None,
        problem: object = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status_code = status_code
        self.retry_after = retry_after
        self.problem = problem


class UpstreamTransient(UpstreamError):
    """Worth asking again: network, 408, 425, 429, 5xx, truncated or unreadable body."""


class UpstreamUnauthorized(UpstreamError):
    """401 or 403: the credential, not the task, is at fault."""


class TaskNotFound(UpstreamError):
    """The task endpoint answered 404."""


class UpstreamRejected(UpstreamError):
    """The upstream refused this very request, and would again."""


class Decision(StrEnum):
    """What a failed send means for its delivery."""

    RETRY = "retry"
    DEAD = "dead"
    """This message is refused and would be again."""
    DISABLE = "disable"
    """The destination itself is gone or refuses us: it is disabled, and what it is owed is held."""
    UNKNOWN = "unknown"
    """It may have arrived (killed or timed out after sending): retried at most twice for chat and mail."""


class SendError(RelayError):
    """A destination was not told, or it is unknown whether it was.

    ``reason`` is a short snake_case word (stored, shown and a metric label); ``decision`` says
    what becomes of the delivery; ``status_code`` the HTTP or SMTP status or ``None``;
    ``retry_after`` the seconds the peer asked for or ``None``; ``hung`` whether the peer used
    up its time limit, which moves the destination to the lane of those that hang; ``charged``
    whether it counts against the destination's health: what the peer did does, a fault of our
    own (no way out, no worker, an address that we refuse to dial) does not.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        decision: Decision = Decision.RETRY,
        status_code: int | None = None,
        retry_after: float | None = None,
        hung: bool = False,
        charged: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.decision = decision
        self.status_code = status_code
        self.retry_after = retry_after
        self.hung = hung
        self.charged = charged


class AddressRefused(SendError):
    """The receiver resolves to an address that the policy forbids. ``rule`` names the rule.

    Never charged: it is our own policy that refuses.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        reason = reasons.Reason.ADDRESS_REFUSED
        super().__init__(message, reason=reason, decision=Decision.RETRY, charged=False)
        self.rule = rule


class RequestRefused(RelayError):
    """What a caller asks for cannot be done. ``pointer`` is a JSON pointer into the request body."""

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class DestinationReadOnly(RequestRefused):
    """The destination is defined in the configuration file, which alone changes it."""


class DestinationExists(RequestRefused):
    """There is a destination of that name already."""


class IdempotencyConflict(RequestRefused):
    """The same ``Idempotency-Key`` was used by this caller for another input."""


class WrongState(RequestRefused):
    """What is asked for does not go with the state that a thing is in. The text names that state."""


class SubmissionUnresolved(RequestRefused):
    """The upstream gave no definite answer in time. Asking again with ``idempotency_key`` is safe."""

    def __init__(self, message: str, *, idempotency_key: str) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
