"""Every error that a caller can meet, in one tree.

::

    CertfleetError
    ├── Rejected            the request cannot be done as it stands; names fields, reasons, remedies   (HTTP 422)
    │   └── Unprocessable   the same, with a code of its own (idempotency_key_reused, …)              (HTTP 422)
    ├── Unauthenticated     no token, or not one of ours                                              (HTTP 401)
    ├── Forbidden           the token lacks the scope                                                 (HTTP 403)
    ├── NotFound            nothing of that id in this account                                        (HTTP 404)
    ├── Expired             it was there, and is no longer kept                                       (HTTP 410)
    ├── Conflict            true only later or elsewhere: busy, in use, in the wrong state            (HTTP 409)
    ├── Transient           try again; the worker does, with back-off                                 (HTTP 503)
    ├── Misconfigured       the operator's settings are wrong; all problems listed                    (exit 2)
    └── DriverError         what an adapter may raise: driver or source (never reaches HTTP)
        ├── permanent: InvalidMaterial, Unsupported (NotOffered, NotRenewable), AuthRefused
        ├── slots:     QuotaExceeded, InUse
        ├── retryable: Busy, Unreachable, OutcomeUnknown (read first), Replan
        └── alarm:     Corrupt, NotServed

The API maps classes to statuses in ``services/api/errors.py``; a test proves that map complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


class CertfleetError(Exception):
    """Base of the tree.

    Attributes:
        code: stable, machine-readable, snake_case; part of the contract.
        hint: what the reader can do about it; empty when the message says it.
    """

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One refused field. ``field`` is a dotted path (``regions.0``) or empty for the body as a whole."""

    field: str
    code: str
    message: str
    hint: str = ""
    line: int | None = None


class Rejected(CertfleetError):
    """The request cannot be done as it stands. ``errors`` names every field, not just the first."""

    code = "invalid_request"

    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", errors: tuple[FieldError, ...] = ()
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.errors = errors


class Unprocessable(Rejected):
    """A well-formed request that contradicts an earlier one or the account's state."""


class Unauthenticated(CertfleetError):
    """No bearer token, or one that is unknown, revoked or expired. The message never says which."""

    code = "unauthenticated"


class Forbidden(CertfleetError):
    """The token is good but lacks the scope that the route needs."""

    code = "forbidden"


class NotFound(CertfleetError):
    """Nothing of that id in this account. The same answer whether it exists elsewhere or not."""

    code = "not_found"


class Expired(CertfleetError):
    """It was there once, and is no longer kept. The hint says where to go on."""

    code = "expired"


class Conflict(CertfleetError):
    """Not now: busy, in use, or in a state that does not allow it. ``context`` says who is in the way.

    ``retry_after``: when to ask again, where time alone may help.
    """

    code = "conflict"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        context: dict[str, object] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.context = context or {}
        self.retry_after = retry_after


class Transient(CertfleetError):
    """Try again. The worker retries only these (and retryable driver errors)."""

    code = "temporarily_unavailable"


class Misconfigured(CertfleetError):
    """The operator's settings are wrong. ``problems`` lists all of them, one sentence each."""

    code = "misconfigured"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class DriverError(CertfleetError):
    """What an adapter (driver or source) raises. Foreign exceptions are translated at the call, ``raise … from``.

    Messages are shown to users and sent in webhooks: they name the balancer's answer, never key material.
    """

    code = "driver_error"
    retryable = False
    may_have_happened = False
    """True when the balancer may hold the object although the call failed: keep its quota slot, read before writing."""


class InvalidMaterial(DriverError):
    """The balancer refuses this content, now and always."""

    code = "invalid_material"


class Unsupported(DriverError):
    """The balancer, or its configuration, cannot do this."""

    code = "unsupported"


class NotOffered(Unsupported):
    """The certificate service has no such certificate for us, or gives its key to nobody."""

    code = "not_offered"


class NotRenewable(Unsupported):
    """The certificate service does not renew this certificate, or not yet."""

    code = "not_renewable"


class AuthRefused(DriverError):
    """Our credentials for the balancer are wrong or lack a right."""

    code = "auth_refused"


class QuotaExceeded(DriverError):
    """No free slot in the region."""

    code = "quota_exceeded"


class InUse(DriverError):
    """The object is referenced by a listener; it cannot be retired yet."""

    code = "in_use"


class Busy(DriverError):
    """The balancer asks us to come back later."""

    code = "busy"
    retryable = True


class Unreachable(DriverError):
    """No connection, or no answer to a read. Nothing was changed."""

    code = "unreachable"
    retryable = True


class OutcomeUnknown(DriverError):
    """A change was sent and the answer was lost. Take a snapshot before anything else; never re-send blindly."""

    code = "outcome_unknown"
    retryable = True
    may_have_happened = True


class Replan(DriverError):
    """Somebody else changed the balancer between our read and our write. Read again and decide anew."""

    code = "changed_meanwhile"
    retryable = True


class Corrupt(DriverError):
    """The balancer says yes and holds something else. Stop and raise an alarm."""

    code = "corrupt"
    may_have_happened = True


class NotServed(DriverError):
    """The balancer says yes, and a client's handshake shows something else. What was served before is put back."""

    code = "not_served"
    retryable = True
    may_have_happened = True
