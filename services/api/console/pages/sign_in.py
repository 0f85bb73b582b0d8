"""Sign in by password or by link, and sign out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import Response, g, make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api import bodies
from services.api.calls import current_context, current_time
from services.api.console import visits
from services.api.console.blueprint import Pages, signed_in
from services.api.console.forms import check_form
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.errors import status_of
from shared.crypto.tokens import new_token
from shared.errors import CertfleetError, Conflict, Unauthenticated
from shared.usecases import sign_in

blueprint = Pages("sign_in", __name__)

HOME: Final = "/overview"

SAID: Final = (
    N_("The e-mail address or the password is wrong."),
    N_("Try again, or have a sign-in link made: certfleet people link."),
    N_("Too many attempts to sign in."),
    N_("Wait a quarter of an hour, then try again."),
    N_("This sign-in link does not work any more."),
    N_("A link works once and for a short time; have a new one made."),
)
"""What the use cases answer, so that it is translated when it is shown."""


@blueprint.get("/")
def home() -> AnyResponse:
    """Where people begin."""
    return redirect(HOME, HTTPStatus.SEE_OTHER)


@blueprint.get("/sign-in")
def ask() -> Response:
    """Ask for address and password."""
    return _form(email="")


@blueprint.post("/sign-in")
def enter() -> AnyResponse:
    """Sign in by password."""
    check_form(visits.before_cookie())
    email = request.form.get("email", "")
    try:
        token = _by_password(email, request.form.get("password", ""))
    except (Unauthenticated, Conflict) as error:
        return _form(email=email, error=error)
    return _signed_in(token)


@blueprint.get("/sign-in/<token>")
def confirm(token: str) -> Response:
    """Ask before the link is used up: mail programs and scanners open links by themselves, but send no forms."""
    with current_context().transaction() as session:
        sign_in.check_link(session, token=token, now=current_time())
    return _before_page("sign_in_link.html")


@blueprint.post("/sign-in/<token>")
def enter_by_link(token: str) -> AnyResponse:
    """Sign in by link."""
    check_form(visits.before_cookie())
    with current_context().transaction() as session:
        clear = sign_in.sign_in_with_link(session, token=token, now=current_time(), browser=_browser())
        sign_in.end_session(session, visits.session_cookie())
    return _signed_in(clear)


@blueprint.post("/sign-out")
@signed_in
def leave() -> AnyResponse:
    """End this browser's session."""
    sign_in.end_session(visits.current_visit().session, visits.session_cookie())
    response = redirect("/sign-in", HTTPStatus.SEE_OTHER)
    visits.forget_session(response)
    return response


def _by_password(email: str, password: str) -> str:
    """Counted first and for itself, so that a refusal does not take the count back."""
    context, now = current_context(), current_time()
    with context.transaction() as session:
        sign_in.count_try(session, email=email, address=request.remote_addr or "", now=now)
    if not bodies.is_storable(email):
        email = ""
    with context.transaction() as session:
        token = sign_in.sign_in_with_password(session, email=email, password=password, now=now, browser=_browser())
        sign_in.end_session(session, visits.session_cookie())
    return token


def _form(*, email: str, error: CertfleetError | None = None) -> Response:
    response = _before_page("sign_in.html", email=email, error=error, next=visits.next_page(HOME))
    if error is not None:
        response.status_code = status_of(error)
    return response


def _before_page(template: str, **values: object) -> Response:
    """A page with a form for somebody who is not signed in: its token needs a cookie to be bound to."""
    token = visits.before_cookie() or new_token()
    g.before_token = token
    response = make_response(render(template, **values))
    visits.keep_before(response, token)
    return response


def _signed_in(token: str) -> AnyResponse:
    response = redirect(visits.next_page(HOME), HTTPStatus.SEE_OTHER)
    visits.keep_session(response, token)
    return response


def _browser() -> str:
    return request.headers.get("User-Agent", "")
