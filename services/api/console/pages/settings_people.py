"""People who may sign in to this account's console: invite by a link that works once, remove."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.errors import Rejected
from shared.schemas.self_service import InvitationIn
from shared.usecases import people, self_service
from shared.usecases.self_service import INVITATION_LIFE, Invitation

blueprint = Pages("settings_people", __name__)

SAID: Final = (
    N_("This address cannot be invited."),
    N_("Use another address."),
    N_("This person has signed in already."),
    N_("An operator makes a link: certfleet people link."),
    N_("Nobody can remove themselves."),
    N_("Let somebody else of the account do it: so it always has one who can sign in."),
    N_("There is no such person."),
    N_("They may have been removed already."),
)
"""What use cases answer."""


@blueprint.get("/settings/people")
@signed_in
def index() -> AnyResponse:
    """List them, by address."""
    return _page()


@blueprint.post("/settings/people")
@signed_in
def invite() -> AnyResponse:
    """Add somebody, and show the link that signs them in, this once."""
    visit, typed = current_visit(), request.form.get("email", "").strip()
    try:
        wanted = checked(InvitationIn(), {"email": typed})
        invitation = self_service.invite(visit.session, visit.caller, email=wanted["email"], now=visit.now)
    except Rejected as error:
        return _page(typed=typed, error=error)
    return _page(invitation=invitation)


@blueprint.post("/settings/people/<person_id>/invite")
@signed_in
def invite_again(person_id: str) -> AnyResponse:
    """Show a new link for somebody who has never signed in."""
    visit = current_visit()
    return _page(invitation=self_service.invite_again(visit.session, visit.caller, person_id, now=visit.now))


@blueprint.get("/settings/people/<person_id>/remove")
@signed_in
def ask_removal(person_id: str) -> str:
    """Who would be gone."""
    visit = current_visit()
    return render("settings_people_remove.html", one=self_service.find_person(visit.session, visit.caller, person_id))


@blueprint.post("/settings/people/<person_id>/remove")
@signed_in
def remove(person_id: str) -> AnyResponse:
    """Sign somebody out for good."""
    visit = current_visit()
    self_service.remove_person(visit.session, visit.caller, person_id, now=visit.now)
    visit.say(_("Removed, and signed out everywhere."))
    return redirect("/settings/people", HTTPStatus.SEE_OTHER)


def _page(*, typed: str = "", error: Rejected | None = None, invitation: Invitation | None = None) -> AnyResponse:
    visit = current_visit()
    link = people.link_address(visit.context.settings.public_url, invitation.link) if invitation else None
    page = render(
        "settings_people.html",
        people=people.list_people(visit.session, visit.caller.account_id),
        invited=invitation.person.email if invitation else "",
        link=link,
        days=INVITATION_LIFE.days,
        typed=typed,
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
