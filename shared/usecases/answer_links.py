"""Links in reminder mails: made for one recipient and one notice, followed without signing in, good for a while.

A link names a row of the ledger and carries our signature over what that row says (account, certificate, expiry,
recipient), the link's scope and its end; so it opens nothing else, and holds nothing about anybody in clear. The keys
of the signatures are derived from the key-encryption keys and rotate with them: once a KEK is taken out of the key
file, the links made under it are dead.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.orm import Session

from shared.domain.answers import LINK_LIFE, Answer, LinkScope
from shared.domain.certificates import CertificateState
from shared.errors import Conflict, NotFound, Rejected
from shared.models import Account, Certificate, Reminder
from shared.usecases import answers
from shared.usecases.browsing import find_certificate
from shared.usecases.context import Context
from shared.usecases.tokens import Caller

LONGEST: Final = 500
"""Characters of a link's token; ours have about 160."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link whose signature holds and whose time has not run out."""

    scope: LinkScope
    account_id: str
    certificate_id: str
    not_after: datetime
    """The end that its mail was about: the certificate's own, or that of one of its chain."""
    recipient: str

    @property
    def caller(self) -> Caller:
        """Who acts, as the audit shows it. It has no scope: only what is called with it here can be done."""
        return Caller(account_id=self.account_id, token_id=f"mailto:{self.recipient}", scopes=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the page's form sends. ``seen`` is :func:`state_mark` of what its reader saw."""

    answer: Answer
    until: datetime | None
    seen: str


def answer_url(context: Context, reminder: Reminder, scope: LinkScope, *, now: datetime) -> str:
    """The link to put into the mail about this notice."""
    ends = int((now + LINK_LIFE).timestamp())
    kek_id, signature = context.vault.sign(_message(reminder, scope, ends))
    payload = json.dumps([kek_id, scope, reminder.id, ends], separators=(",", ":")).encode()
    return f"{context.settings.public_url}/answer/{_encode(payload)}.{_encode(signature)}"


def follow(context: Context, session: Session, token: str, *, now: datetime) -> Link:
    """Whose link it is, and for what. Changes nothing.

    Raises:
        NotFound: not one of ours or changed (``link_not_valid``), or too old (``link_expired``).
    """
    kek_id, scope, reminder_id, ends, signature = _parse(token)
    reminder = session.get(Reminder, reminder_id)
    if reminder is None or not context.vault.is_signed(_message(reminder, scope, ends), signature, kek_id=kek_id):
        raise _not_valid()
    if now >= datetime.fromtimestamp(ends, UTC):
        raise NotFound(
            "This link is too old.", code="link_expired", hint="The next reminder has a new one; or use the API."
        )
    return Link(
        scope=scope,
        account_id=reminder.account_id,
        certificate_id=reminder.certificate_id,
        not_after=reminder.not_after,
        recipient=reminder.recipient,
    )


def find_answerable(session: Session, link: Link) -> Certificate:
    """The certificate that the link is about.

    Raises:
        NotFound: it is gone (``certificate_gone``), or its reader is no contact any more (``not_a_contact``).
    """
    certificate = session.get(Certificate, link.certificate_id, populate_existing=True)
    if certificate is None or certificate.state != CertificateState.VALID:
        raise NotFound(
            "This certificate has been removed.", code="certificate_gone", hint="Nobody is reminded of it any more."
        )
    general = session.get_one(Account, link.account_id).contacts
    if link.recipient not in {*certificate.contacts, *general}:
        raise NotFound(
            "You are not a contact of this certificate any more.",
            code="not_a_contact",
            hint="You get no more reminders of it.",
        )
    return certificate


def reply_by_link(session: Session, link: Link, reply: Reply, *, now: datetime) -> None:
    """Do what the reader has confirmed. Doing it twice is doing it once.

    Raises:
        NotFound: as :func:`find_answerable`.
        Conflict: somebody answered after the reader looked (``answered_meanwhile``).
        Rejected: a snooze past the floor.
    """
    find_answerable(session, link)
    caller, certificate_id = link.caller, link.certificate_id
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    if _is_in_force(certificate, reply):
        return
    if reply.seen != state_mark(certificate):
        raise Conflict("Somebody has answered in the meantime.", code="answered_meanwhile", hint="Look again.")
    if reply.answer is Answer.ACKNOWLEDGE:
        answers.acknowledge(session, caller, certificate_id, now=now)
    elif reply.answer is Answer.MUTE:
        answers.mute(session, caller, certificate_id, now=now)
    elif reply.answer is Answer.RESUME:
        answers.resume(session, caller, certificate_id, now=now)
    else:
        answers.snooze(session, caller, certificate_id, until=_given(reply.until), now=now)


def state_mark(certificate: Certificate) -> str:
    """Stands for everything that was answered so far: a form that was made before the last answer is out of date."""
    answered = (
        certificate.reminders_acknowledged_at,
        certificate.reminders_snoozed_until,
        certificate.reminders_muted,
    )
    return hashlib.sha256(repr(answered).encode()).hexdigest()[:16]


def _is_in_force(certificate: Certificate, reply: Reply) -> bool:
    acknowledged = certificate.reminders_acknowledged_at is not None
    snoozed_until, is_muted = certificate.reminders_snoozed_until, certificate.reminders_muted
    return {
        Answer.ACKNOWLEDGE: acknowledged,
        Answer.SNOOZE: snoozed_until is not None and snoozed_until == reply.until,
        Answer.MUTE: is_muted,
        Answer.RESUME: not acknowledged and snoozed_until is None and not is_muted,
    }[reply.answer]


def _given(until: datetime | None) -> datetime:
    if until is None:
        raise Rejected("Choose until when.", code="missing_field", hint="Go back and choose.")
    return until


def _parse(token: str) -> tuple[str, LinkScope, str, int, bytes]:
    payload, _, signature = token.partition(".")
    try:
        if len(token) > LONGEST or not token.isascii():
            raise _not_valid()
        kek_id, scope, reminder_id, ends = json.loads(_decode(payload))
        if not isinstance(kek_id, str) or not isinstance(reminder_id, str) or not isinstance(ends, int):
            raise _not_valid()
        if not reminder_id.replace("_", "").isalnum():
            raise _not_valid()
        return kek_id, LinkScope(scope), reminder_id, ends, _decode(signature)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise _not_valid() from error


def _message(reminder: Reminder, scope: LinkScope, ends: int) -> bytes:
    """What is signed; each part with its length, so that no two messages encode alike."""
    about = (reminder.account_id, reminder.certificate_id, reminder.not_after.astimezone(UTC).isoformat())
    parts = ("certfleet/1 answer", scope, str(ends), reminder.id, *about, reminder.recipient)
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """One spelling only: what does not encode back to the same text is not ours."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(data) != text:
        raise ValueError("not our spelling")
    return data


def _not_valid() -> NotFound:
    return NotFound(
        "This link is not valid.", code="link_not_valid", hint="Copy the whole address from the mail, or use the API."
    )
