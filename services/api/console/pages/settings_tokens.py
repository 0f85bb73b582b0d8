"""API tokens: what programs sign in with. Shown once when made; revoked at once."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.domain.scopes import Scope
from shared.errors import Rejected
from shared.schemas.self_service import TokenIn
from shared.usecases import self_service

blueprint = Pages("settings_tokens", __name__)

LIVES: Final = (30, 90, 365)
"""Days to choose from; longer ones are made by the command line."""

SCOPES: Final = (
    (Scope.READ, N_("look at everything but keys")),
    (Scope.WRITE, N_("add, deploy, replace, delete; manage webhooks")),
    (Scope.DOWNLOAD, N_("download certificates with their private keys")),
    (Scope.ADMIN, N_("change the settings of the account")),
)


@blueprint.get("/settings/tokens")
@signed_in
def index() -> AnyResponse:
    """List them, newest first; never the tokens themselves."""
    return _page()


@blueprint.post("/settings/tokens")
@signed_in
def create() -> AnyResponse:
    """Make one and show it, this once."""
    visit, body = current_visit(), _body()
    try:
        wanted = checked(TokenIn(), body)
    except Rejected as error:
        return _page(typed=body, error=error)
    _token, clear = self_service.issue_token(
        visit.session,
        visit.caller,
        name=wanted["name"],
        scopes=[Scope(scope) for scope in wanted["scopes"]],
        life=timedelta(days=wanted["days"]) if wanted["days"] else None,
        now=visit.now,
    )
    return _page(clear=clear)


@blueprint.post("/settings/tokens/<token_id>/revoke")
@signed_in
def revoke(token_id: str) -> AnyResponse:
    """Stop one from working."""
    visit = current_visit()
    self_service.withdraw_token(visit.session, visit.caller, token_id, now=visit.now)
    visit.say(_("The token works no more."))
    return redirect("/settings/tokens", HTTPStatus.SEE_OTHER)


def _body() -> dict[str, Any]:
    form, days = request.form, request.form.get("days", "")
    life: object = int(days) if days in {str(one) for one in LIVES} else (None if days == "never" else days)
    return {"name": form.get("name", "").strip(), "scopes": form.getlist("scopes"), "days": life}


def _page(
    *, typed: dict[str, Any] | None = None, error: Rejected | None = None, clear: str | None = None
) -> AnyResponse:
    visit = current_visit()
    found = self_service.list_tokens(visit.session, visit.caller, visit.page({}))
    page = render(
        "settings_tokens.html",
        tokens=[(one, _state(one, now=visit.now)) for one in found.items],
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        typed=typed or {"name": "", "scopes": [Scope.READ], "days": LIVES[1]},
        scopes=SCOPES,
        lives=LIVES,
        error=error,
        clear=clear,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _state(token: Any, *, now: Any) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "live"
