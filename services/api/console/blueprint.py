"""What a page is made of: its addresses, its place in the navigation, its errors as pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Any, Final, ParamSpec
from urllib.parse import quote

import structlog
from flask import Blueprint, Response, g, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from services.api import bodies
from services.api.calls import current_context, current_time
from services.api.console import visits
from services.api.console.forms import check_form
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.errors import status_of
from shared.errors import CertfleetError, NotFound, Unauthenticated
from shared.usecases.sign_in import current_session

P = ParamSpec("P")
View = Callable[P, "str | AnyResponse"]

ENDPOINTS: Final = "console_"
"""How the names of the console's endpoints begin."""

_EDGES: Final = {
    HTTPStatus.NOT_FOUND: (N_("There is nothing at this address."), N_("Check the link.")),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        N_("That is too large: a form takes up to 1 MiB."),
        N_("Send only the certificate and its intermediates, or only the CA certificates that clients need."),
    ),
}
"""What the framework refuses, in our words."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NavigationEntry:
    """A page of the header: where it leads, its English title (translated when shown), its place from the left."""

    title: str
    address: str
    place: int


class Pages(Blueprint):
    """The routes of one page and what is near it. ``entry`` puts it into the navigation."""

    def __init__(self, name: str, import_name: str, *, entry: NavigationEntry | None = None) -> None:
        super().__init__(f"{ENDPOINTS}{name}", import_name)
        self.entry = entry
        self.register_error_handler(CertfleetError, _refused)
        self.register_error_handler(HTTPException, _edge)
        self.register_error_handler(Exception, _unexpected)


def signed_in(view: View[P]) -> View[P]:
    """The view is for people who are signed in. Put it directly under the route.

    It runs in one transaction as :func:`services.api.console.visits.current_visit`, committed before the answer is
    sent. A form's token and origin are checked before. Who is not signed in is sent to sign in, and then back.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> str | AnyResponse:
        bodies.receive(request)
        context, now = current_context(), current_time()
        with context.transaction() as session:
            try:
                person = current_session(session, visits.session_cookie(), now=now)
            except Unauthenticated:
                return _to_sign_in()
            structlog.contextvars.bind_contextvars(account_id=person.caller.account_id, person_id=person.person_id)
            visits.begin(visits.Visit(context=context, session=session, signed_in=person, now=now))
            _check_address()
            if request.method == "POST":
                check_form(visits.session_cookie())
            return view(*args, **kwargs)

    return guarded


def _to_sign_in() -> AnyResponse:
    here = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(f"/sign-in?next={quote(here)}", HTTPStatus.SEE_OTHER)


def _check_address() -> None:
    """The database refuses some characters, and no id of ours has them."""
    values = [*(request.view_args or {}).values(), *(value for _name, value in request.args.items(multi=True))]
    if not all(bodies.is_storable(str(value)) for value in values):
        raise NotFound("There is nothing at this address.", hint="Check the link.")


def _refused(error: CertfleetError) -> Response:
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(error)
    structlog.contextvars.bind_contextvars(code=error.code)
    return _page(status, message=error.message, hint=error.hint, errors=getattr(error, "errors", ()))


def _edge(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    message, hint = _EDGES.get(status, (f"{status.phrase}.", ""))
    return _page(status, message=message, hint=hint)


def _unexpected(error: Exception) -> Response:
    log.error("request_failed_unexpectedly", exc_info=error)
    return _page(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        message=N_("Something went wrong on our side."),
        hint=N_("Try again; if it stays, give the operator the number below."),
    )


def _page(status: HTTPStatus, *, message: str, hint: str, errors: Any = ()) -> Response:
    g.failed = True  # the transaction is over: nothing may be noted in it
    text = render("error.html", status=status, message=message, hint=hint, errors=errors)
    return Response(text, status=status.value, mimetype="text/html")
