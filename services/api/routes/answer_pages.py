"""/answer/…: the pages behind the links of a reminder mail. Looking changes nothing; the page's form does, by POST.

No sign-in, no cookie, no script. Who holds a link may do what the link is for: there is no other authority that a
foreign page could abuse. A program that follows links (a mail scanner) sees a page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

import structlog
from flask import Blueprint, Response, render_template, request
from sqlalchemy.orm import Session

from services.api import bodies
from services.api.calls import current_context, current_time
from services.api.errors import status_of
from shared.domain.answers import Answer, Hold, LinkScope, floor_of, snooze_choices
from shared.domain.certificates import title_of
from shared.domain.reminders import calendar_day, days_left, time_left
from shared.errors import CertfleetError, Conflict, NotFound, Rejected, Transient
from shared.models import Account, Certificate
from shared.usecases import answers
from shared.usecases.answer_links import Link, Reply, find_answerable, follow, reply_by_link, state_mark
from shared.usecases.mail import plain

blueprint = Blueprint("answer_pages", __name__)

_GONE: Final = frozenset({"link_expired", "certificate_gone", "not_a_contact"})
_POLICY: Final = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_STYLE: Final = (files("services.api") / "templates" / "answer.css").read_text(encoding="utf-8")


@blueprint.get("/answer.css")
def style() -> Response:
    """The pages' style; the same for everybody."""
    response = Response(_STYLE, mimetype="text/css")
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


@blueprint.get("/answer/<token>")
def look(token: str) -> Response:
    """Show what can be answered, and what was."""
    try:
        return _look(token)
    except CertfleetError as error:
        return _refusal(error)


@blueprint.post("/answer/<token>")
def reply(token: str) -> Response:
    """Do what the form says, or unsubscribe with one click (RFC 8058)."""
    bodies.receive(request)
    try:
        _check_origin()
        return _reply(token)
    except CertfleetError as error:
        return _refusal(error)


def _look(token: str) -> Response:
    context, now = current_context(), current_time()
    with context.transaction() as session:
        link = follow(context, session, token, now=now)
        return _page(_shown(session, link, now=now))


def _reply(token: str) -> Response:
    context, now = current_context(), current_time()
    with context.transaction() as session:
        link = follow(context, session, token, now=now)
        if link.scope is LinkScope.CERTIFICATE:
            reply_by_link(session, link, _form(), now=now)
        else:
            _change_subscription(session, link, now=now)
            return _page(_shown(session, link, now=now))
    response = Response(status=HTTPStatus.SEE_OTHER.value)
    response.headers["Location"] = f"./{token}"
    return _guarded(response)


def _check_origin() -> None:
    """A browser says that the form was not ours. Origin is of no use: our Referrer-Policy makes it null."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Conflict("This came from another site.", code="foreign_form", hint="Open the link in the mail.")


def _form() -> Reply:
    try:
        until = request.form.get("until")
        moment = datetime.fromisoformat(until) if until else None
        if moment is not None and moment.tzinfo is None:
            raise _unreadable()
        return Reply(answer=Answer(request.form.get("answer", "")), until=moment, seen=request.form.get("seen", ""))
    except ValueError as error:
        raise _unreadable() from error


def _unreadable() -> Rejected:
    return Rejected("This form cannot be read.", code="invalid_form", hint="Go back and choose again.")


def _change_subscription(session: Session, link: Link, *, now: datetime) -> None:
    """``List-Unsubscribe=One-Click`` is what mail programs send, and our form, too."""
    if request.form.get("List-Unsubscribe") == "One-Click":
        answers.unsubscribe(session, link.caller, link.recipient, now=now)
    elif request.form.get("answer") != Answer.RESUME:
        raise _unreadable()
    elif answers.is_unsubscribed(session, link.account_id, link.recipient):
        answers.subscribe_again(session, link.caller, link.recipient, now=now)


def _shown(session: Session, link: Link, *, now: datetime) -> dict[str, Any]:
    known = {
        "account": plain(session.get_one(Account, link.account_id).name),
        "recipient": link.recipient,
        "is_unsubscribed": answers.is_unsubscribed(session, link.account_id, link.recipient),
    }
    if link.scope is LinkScope.UNSUBSCRIBE:
        return {**known, "page": "subscription", "title": "Reminder mails"}
    return {**known, "page": "certificate", **_certificate(find_answerable(session, link), link.not_after, now=now)}


def _certificate(certificate: Certificate, not_after: datetime, *, now: datetime) -> dict[str, Any]:
    """``not_after``: the end that the mail was about."""
    days = days_left(not_after, now)
    title = title_of(certificate.common_name, certificate.names, certificate.name)
    hold = Hold(
        acknowledged_at=certificate.reminders_acknowledged_at, snoozed_until=certificate.reminders_snoozed_until
    ).until(not_after)
    return {
        "title": plain(title, limit=80),
        "name": plain(certificate.name),
        "sentence": f"{'Expired' if days < 0 else 'Expires'} {time_left(days)}",
        "is_chain": not_after != certificate.not_after,
        "is_late": days <= 1,
        "end": _words(not_after),
        "is_muted": certificate.reminders_muted,
        "is_replaced": certificate.replaced_by_id is not None,
        "acknowledged_by": _person(certificate.reminders_acknowledged_by),
        "snoozed_by": _person(certificate.reminders_snoozed_by),
        "held_until": _words(hold) if hold is not None and hold > now else None,
        "choices": [(end.isoformat(), _words(end)) for end in snooze_choices(not_after, now)],
        "floor": _words(floor_of(not_after)) if floor_of(not_after) > now else None,
        "seen": state_mark(certificate),
    }


def _person(actor: str | None) -> str | None:
    """Whose answer it was: an address, or whoever used the API."""
    if actor is None:
        return None
    return actor.removeprefix("mailto:") if actor.startswith("mailto:") else "a program"


def _words(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    return f"{calendar_day(at)}, {at:%H:%M} UTC"


def _refusal(error: CertfleetError) -> Response:
    """A page for what a reader can make sense of; anything else is a problem as everywhere."""
    if not isinstance(error, NotFound | Conflict | Rejected | Transient):
        raise error
    structlog.contextvars.bind_contextvars(code=error.code)
    status = HTTPStatus.GONE if error.code in _GONE else status_of(error)
    return _page({"page": "refusal", "title": error.message, "hint": error.hint, "code": error.code}, status)


def _page(shown: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return _guarded(Response(render_template("answer.html", **shown), status=status.value, mimetype="text/html"))


def _guarded(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response
