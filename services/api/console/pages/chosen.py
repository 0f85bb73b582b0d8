"""Several certificates at once: a page that shows whom it touches, then one transaction for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from flask import redirect, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _, ngettext
from services.api.console.rendering import render
from services.api.console.visits import ROWS, current_visit
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState
from shared.errors import Conflict, NotFound, Rejected
from shared.usecases import browsing, rollout
from shared.usecases.browsing import Document
from shared.usecases.editing import edit_certificate
from shared.usecases.listeners import users_of
from shared.usecases.regions import list_regions

blueprint = Pages("chosen", __name__)

MOST: Final = ROWS
"""As many as a page of the list has."""

REASONS: Final = 3
"""Refusals that the next page repeats; the others are counted."""

DEEDS: Final = {
    "regions": N_("Add regions"),
    "mute": N_("Mute reminders"),
    "unmute": N_("Remind again"),
    "delete": N_("Delete"),
}

Deed = Callable[[Session, Document], object]
"""Does it to one certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How many were done, and why the others were not, by name."""

    done: int
    refused: list[tuple[str, str]]


@blueprint.get("/certificates/chosen")
@signed_in
def ask() -> str:
    """Show what it would do, and to whom."""
    visit, what = current_visit(), _what(request.args.get("do"))
    certificates = _certificates(request.args.getlist("ids"))
    users = users_of(visit.session, visit.caller, [one["id"] for one in certificates])
    return render(
        "chosen.html",
        what=what,
        title=DEEDS[what],
        certificates=certificates,
        users=users,
        free=[one for one in certificates if not users[one["id"]]],
        regions=list_regions(visit.context, visit.session, visit.caller, now=visit.now) if what == "regions" else [],
        most=MOST,
    )


@blueprint.post("/certificates/chosen")
@signed_in
def act() -> AnyResponse:
    """Do it to each by itself: what cannot be done to one is said, and does not hold the others up."""
    what = _what(request.form.get("do"))
    outcome = _each(_certificates(request.form.getlist("ids")), _deed(what))
    current_visit().say(_summary(outcome))
    return redirect(
        "/jobs" if what in {"regions", "delete"} and outcome.done else "/certificates", HTTPStatus.SEE_OTHER
    )


def _what(given: str | None) -> str:
    if given not in DEEDS:
        raise NotFound("There is nothing at this address.", hint="Check the link.")
    return given


def _certificates(ids: Iterable[str]) -> list[Document]:
    visit = current_visit()
    return browsing.get_certificates(visit.session, visit.caller, list(dict.fromkeys(ids))[:MOST])


def _deed(what: str) -> Deed:
    visit = current_visit()
    caller, now = visit.caller, visit.now
    if what == "delete":
        return lambda session, one: rollout.remove_certificate(session, caller, one["id"], now=now)
    if what == "regions":
        return _adding(tuple(request.form.getlist("regions")))
    changes = {"reminders_muted": what == "mute"}
    return lambda session, one: edit_certificate(session, caller, one["id"], changes, now=now)


def _adding(regions: tuple[str, ...]) -> Deed:
    """Add those of the regions that the certificate is not in, nor on its way to."""
    visit = current_visit()

    def add(session: Session, certificate: Document) -> None:
        there = {one["region"] for one in certificate["deployments"] if _is_there(one["state"])}
        missing = tuple(dict.fromkeys(region for region in regions if region not in there))
        if not missing:
            raise Conflict(_("It is in these regions already."), code="already_deployed", hint=_("Choose others."))
        rollout.add_regions(visit.context, session, visit.caller, certificate["id"], missing, now=visit.now)

    return add


def _is_there(state: str) -> bool:
    return state == DeploymentState.DEPLOYED or state in ACTIVE_DEPLOYMENTS


def _each(certificates: Iterable[Document], deed: Deed) -> Outcome:
    """One transaction for each: events are numbered under a lock that comes last, so a second deed may not follow."""
    done, refused = 0, []
    for one in certificates:
        try:
            with current_visit().context.transaction() as session:
                deed(session, one)
            done += 1
        except (Rejected, Conflict, NotFound) as error:
            refused.append((one["name"], _reason(error)))
    return Outcome(done=done, refused=refused)


def _reason(error: Rejected | Conflict | NotFound) -> str:
    errors: Any = getattr(error, "errors", ())
    return str(errors[0].message) if errors else error.message


def _summary(outcome: Outcome) -> str:
    done = ngettext("Done for %(count)d certificate.", "Done for %(count)d certificates.", outcome.done)
    parts = [done % {"count": outcome.done}]
    parts += [f"{name}: {reason}" for name, reason in outcome.refused[:REASONS]]
    more = len(outcome.refused) - REASONS
    if more > 0:
        parts.append(ngettext("%(count)d more was refused.", "%(count)d more were refused.", more) % {"count": more})
    return " ".join(parts)
