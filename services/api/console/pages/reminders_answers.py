"""Answers to reminders: acknowledge, snooze, mute, take back; who has unsubscribed, and subscribing again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from shared.domain.answers import snooze_choices
from shared.errors import NotFound, Rejected
from shared.schemas.reminders import RecipientIn, SnoozeIn
from shared.usecases import answers, audit, expiries
from shared.usecases.expiries import Expiry

blueprint = Pages("reminders_answers", __name__)

ROWS: Final = 25
MOST_UNSUBSCRIBED: Final = 200
"""Rows that the page shows; ``GET /v1/reminders/unsubscribed`` has all."""

SAID: Final = (
    N_("That recipient has not unsubscribed."),
    N_("It ends within three days, or has ended: reminders cannot be held back any more."),
    N_("Replace or renew it; or mute its reminders."),
    N_("It is not a time with an offset, nor a date."),
    N_("Write it as in RFC 3339, such as 2030-01-31T00:00:00Z."),
)
"""What use cases and schemas answer."""


@blueprint.get("/reminders/answers")
@signed_in
def index() -> str:
    """Certificates whose reminders are held back or muted, and recipients who want none."""
    visit = current_visit()
    found = expiries.list_answered(visit.session, visit.caller, visit.page({}, limit=ROWS), now=visit.now)
    unsubscribed = answers.list_unsubscribed(visit.session, visit.caller.account_id)
    return render(
        "reminders_answers.html",
        answered=found.items,
        names=_names(found.items),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        unsubscribed=unsubscribed[:MOST_UNSUBSCRIBED],
        more=max(0, len(unsubscribed) - MOST_UNSUBSCRIBED),
    )


@blueprint.get("/reminders/certificates/<certificate_id>")
@signed_in
def ask(certificate_id: str) -> AnyResponse:
    """What is answered so far, and the forms."""
    return _page(certificate_id)


@blueprint.post("/reminders/certificates/<certificate_id>/acknowledge")
@signed_in
def acknowledge(certificate_id: str) -> AnyResponse:
    """Somebody takes care of it."""
    return _answered(
        answers.acknowledge, certificate_id, _("Acknowledged: no reminders until three days before its end.")
    )


@blueprint.post("/reminders/certificates/<certificate_id>/snooze")
@signed_in
def snooze(certificate_id: str) -> AnyResponse:
    """No reminders before a time."""
    try:
        until = checked(SnoozeIn(), {"until": request.form.get("until", "")})["until"]
        return _answered(answers.snooze, certificate_id, _("Snoozed."), until=until)
    except Rejected as error:
        return _page(certificate_id, error=error)


@blueprint.post("/reminders/certificates/<certificate_id>/mute")
@signed_in
def mute(certificate_id: str) -> AnyResponse:
    """Nobody is reminded of it any more."""
    return _answered(answers.mute, certificate_id, _("Muted: nobody is reminded of it any more."))


@blueprint.post("/reminders/certificates/<certificate_id>/acknowledge/undo")
@signed_in
def withdraw(certificate_id: str) -> AnyResponse:
    """Nobody takes care of it after all."""
    return _answered(answers.withdraw_acknowledgement, certificate_id, _("Taken back: reminders come again."))


@blueprint.post("/reminders/certificates/<certificate_id>/snooze/undo")
@signed_in
def end_snooze(certificate_id: str) -> AnyResponse:
    """Reminders come again at once."""
    return _answered(answers.end_snooze, certificate_id, _("Taken back: reminders come again."))


@blueprint.post("/reminders/certificates/<certificate_id>/resume")
@signed_in
def resume(certificate_id: str) -> AnyResponse:
    """Take every answer back."""
    return _answered(answers.resume, certificate_id, _("Taken back: reminders come again."))


@blueprint.post("/reminders/subscribe")
@signed_in
def subscribe() -> AnyResponse:
    """Send reminders again to somebody who has unsubscribed."""
    visit = current_visit()
    recipient = checked(RecipientIn(), {"recipient": request.form.get("recipient", "")})["recipient"]
    answers.subscribe_again(visit.session, visit.caller, recipient, now=visit.now)
    visit.say(_("Reminders go there again."))
    return redirect("/reminders/answers", HTTPStatus.SEE_OTHER)


def _answered(use_case: Callable[..., object], certificate_id: str, words: str, **values: Any) -> AnyResponse:
    visit = current_visit()
    use_case(visit.session, visit.caller, certificate_id, now=visit.now, **values)
    visit.say(words)
    return redirect(f"/reminders/certificates/{certificate_id}", HTTPStatus.SEE_OTHER)


def _page(certificate_id: str, *, error: Rejected | None = None) -> AnyResponse:
    visit = current_visit()
    expiry = expiries.get_expiry(visit.session, visit.caller, certificate_id)
    if expiry is None:
        raise NotFound("Nobody is reminded of this certificate.", hint="It is not valid, or not yet.")
    page = render(
        "reminders_answers_one.html",
        expiry=expiry,
        names=_names([expiry]),
        choices=[(_written(at), at) for at in snooze_choices(expiry.not_after, visit.now)],
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _names(found: list[Expiry]) -> dict[str, str]:
    """Who answered: people and tokens by what they are called, readers of mails by their address."""
    visit = current_visit()
    actors = {actor for one in found for actor in (one.acknowledged_by, one.snoozed_by) if actor}
    known = audit.names_of_actors(visit.session, visit.caller, actors)
    return {actor: known.get(actor, actor.removeprefix("mailto:")) for actor in actors}


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
