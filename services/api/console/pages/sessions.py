"""Where a person is signed in, and signing out from afar."""

from __future__ import annotations

from http import HTTPStatus

from flask import redirect
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import _
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.usecases import sign_in

blueprint = Pages("sessions", __name__)


@blueprint.get("/sessions")
@signed_in
def index() -> str:
    """List the person's own sessions."""
    visit = current_visit()
    return render("sessions.html", sessions=sign_in.list_sessions(visit.session, visit.signed_in, now=visit.now))


@blueprint.post("/sessions/<session_id>/end")
@signed_in
def end(session_id: str) -> AnyResponse:
    """Sign one of them out."""
    visit = current_visit()
    sign_in.revoke_session(visit.session, visit.signed_in, session_id)
    visit.say(_("That browser is signed out."))
    return redirect("/sessions", HTTPStatus.SEE_OTHER)
