"""One request of a browser: who it is, its cookies, and what the next page shall say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from flask import g, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from services.api.calls import current_context
from shared.usecases import sign_in
from shared.usecases.context import Context
from shared.usecases.paging import PageRequest
from shared.usecases.sign_in import LONGEST, SignedIn
from shared.usecases.tokens import Caller

_SESSION: Final = "certfleet_session"
_BEFORE: Final = "certfleet_before"
"""Before anybody is signed in: what the token of the sign-in form is bound to."""

_BEFORE_LIFE: Final = timedelta(hours=1)

ROWS: Final = 50
"""Rows of a list page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a page's view works with; the console's twin of ``services.api.calls.Call``."""

    context: Context
    session: Session
    signed_in: SignedIn
    now: datetime

    @property
    def caller(self) -> Caller:
        """Whom use cases are told is asking: the person's account, with every scope."""
        return self.signed_in.caller

    def page(self, filters: dict[str, Any], *, limit: int = ROWS) -> PageRequest:
        """The page that ``?cursor=`` asks for; the cursor is good for this list with these filters only."""
        named = [f"{name}={value}" for name, value in sorted(filters.items())]
        cursor = request.args.get("cursor") or None
        return PageRequest(limit=limit, cursor=cursor, binding=(self.caller.account_id, request.path, *named))

    def first_page(self, *, limit: int) -> PageRequest:
        """The first rows of a list that is not this address's own, whatever ``?cursor=`` says."""
        return PageRequest(limit=limit, cursor=None, binding=(self.caller.account_id, request.path))

    def say(self, text: str) -> None:
        """Let the session's next page say it: a form's outcome, before a redirect. Translated already."""
        sign_in.note(self.session, self.signed_in, text)


def begin(visit: Visit) -> None:
    """Make it the request's visit."""
    g.visit = visit


def current_visit() -> Visit:
    """The visit of this request; only inside a view under ``signed_in``."""
    return cast("Visit", g.visit)


def visit_or_none() -> Visit | None:
    """The same, for what is shown to anybody."""
    return cast("Visit | None", g.get("visit"))


def session_cookie() -> str:
    """The clear token of the browser's session; empty without one."""
    return request.cookies.get(_name(_SESSION), "")


def before_cookie() -> str:
    """What the sign-in form's token is bound to; empty without one."""
    return request.cookies.get(_name(_BEFORE), "")


def keep_session(response: AnyResponse, token: str) -> None:
    """Give the browser its session; scripts cannot read it, other sites cannot send it with a form."""
    _keep(response, _SESSION, token, life=LONGEST)
    response.delete_cookie(_name(_BEFORE), path="/", secure=is_https(), httponly=True, samesite="Lax")


def keep_before(response: AnyResponse, token: str) -> None:
    """Give the browser what the sign-in form's token is bound to."""
    _keep(response, _BEFORE, token, life=_BEFORE_LIFE)


def forget_session(response: AnyResponse) -> None:
    """Take the session's cookie back."""
    response.delete_cookie(_name(_SESSION), path="/", secure=is_https(), httponly=True, samesite="Lax")


def next_page(otherwise: str) -> str:
    """Where a form says to go on (``next``); only ever a path of ours."""
    wanted = request.values.get("next", "")
    is_path = wanted.startswith("/") and not wanted.startswith("//")
    is_plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted  # browsers drop tabs, turn backslashes
    return wanted if is_path and is_plain else otherwise


def is_https() -> bool:
    """Whether browsers reach us by https: as the operator says, since a proxy may stand before us."""
    return current_context().settings.public_url.startswith("https://")


def _keep(response: AnyResponse, name: str, value: str, *, life: timedelta) -> None:
    response.set_cookie(_name(name), value, max_age=life, path="/", secure=is_https(), httponly=True, samesite="Lax")


def _name(name: str) -> str:
    """``__Host-``: browsers take it from this very host by https only (RFC 6265bis §4.1.3.2)."""
    return f"__Host-{name}" if is_https() else name
