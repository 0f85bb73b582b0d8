"""Settings of the account and of oneself: its name and contacts, the own password."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.crypto.passwords import MIN_LENGTH
from shared.errors import CertfleetError, Conflict, FieldError, Rejected
from shared.schemas.self_service import PasswordIn
from shared.usecases import account_settings, self_service
from shared.usecases.sign_in import count_try

blueprint = Pages("settings", __name__, entry=NavigationEntry(title=N_("Settings"), address="/settings", place=90))

_SEPARATORS: Final = re.compile(r"[\s,;]+")

SAID: Final = (
    N_("Another account has that name."),
    N_("Some settings need another look."),
    N_("Choose another name."),
    N_("This is not your present password."),
    N_("Without it, an operator makes you a link."),
    N_("It does not have between 12 and 1024 characters."),
    N_("Take a few words; length is what counts."),
    N_("The two are not the same."),
    N_("Type it again."),
    N_("It is not an e-mail address."),
    N_("Give one address of at most 254 characters, such as ops@example.com."),
    N_("It is blank, or holds a control or invisible character."),
    N_("Use letters, digits, punctuation and single spaces on one line."),
)
"""What use cases and schemas answer."""


@blueprint.get("/settings")
@signed_in
def show() -> AnyResponse:
    """The forms as they are now."""
    return _page()


@blueprint.post("/settings")
@signed_in
def change() -> AnyResponse:
    """Change name and contacts."""
    visit = current_visit()
    contacts = [part for part in _SEPARATORS.split(request.form.get("contacts", "")) if part]
    body = {"name": request.form.get("name", "").strip(), "contacts": contacts}
    try:
        changes = account_settings.checked_changes(body)
        with visit.session.begin_nested():
            account_settings.change_settings(visit.context, visit.session, visit.caller, changes, now=visit.now)
    except (Rejected, Conflict) as error:
        return _page(typed=body, error=error)
    visit.say(_("Saved."))
    return redirect("/settings", HTTPStatus.SEE_OTHER)


@blueprint.post("/settings/password")
@signed_in
def change_password() -> AnyResponse:
    """Change the own password; other browsers of the person are signed out."""
    visit = current_visit()
    body = {name: request.form.get(name, "") for name in ("current", "password")}
    try:
        _check_repeated(body["password"])
        wanted = checked(PasswordIn(), body)
        _count_try()
        self_service.change_password(visit.session, visit.signed_in, **wanted, now=visit.now)
    except (Rejected, Conflict) as error:
        return _page(error=error)
    visit.say(_("Your password is changed. Your other browsers are signed out."))
    return redirect("/settings", HTTPStatus.SEE_OTHER)


def _count_try() -> None:
    """As a sign-in, and for itself, so that a refusal does not take the count back."""
    visit = current_visit()
    with visit.context.transaction() as session:
        count_try(session, email=visit.signed_in.email, address=request.remote_addr or "", now=visit.now)


def _check_repeated(password: str) -> None:
    if request.form.get("again", "") == password:
        return
    error = FieldError(field="again", code="not_repeated", message="The two are not the same.", hint="Type it again.")
    raise Rejected("Some fields need another look.", errors=(error,))


def _page(*, typed: dict[str, Any] | None = None, error: CertfleetError | None = None) -> AnyResponse:
    """What was typed is shown again, but never a password."""
    visit = current_visit()
    account = account_settings.read_settings(visit.session, visit.caller.account_id)
    page = render(
        "settings.html",
        typed=typed or account,
        account_id=account["id"],
        has_password=self_service.has_password(visit.session, visit.signed_in),
        min_length=MIN_LENGTH,
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
