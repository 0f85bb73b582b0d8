"""The simulator: what would be sent at a moment, to whom and why; and of what nobody would be told, and why not."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Final

from flask import make_response, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.errors import Rejected
from shared.usecases import reminder_preview

blueprint = Pages("reminders_simulator", __name__)

CERTIFICATES: Final = 50
"""A page is about so many that are near their end."""

REASONS: Final = {
    "already_told": N_("everybody was told of this threshold, or of a nearer one"),
    "muted": N_("its reminders are muted"),
    "acknowledged": N_("somebody takes care of it"),
    "snoozed": N_("its reminders are snoozed"),
    "replaced": N_("it is replaced, and its successor is served everywhere"),
    "short_lived": N_("the threshold lies in the first half of its life"),
    "no_recipient": N_("there is nobody to tell: neither it nor the account has contacts"),
    "unsubscribed": N_("everybody has unsubscribed"),
}
"""Those of ``PreviewSilentOut``, in words."""

URGENCIES: Final = {
    "expired": (N_("expired"), "bad"),
    "critical": (N_("critical"), "bad"),
    "soon": (N_("soon"), "warn"),
    "plan": (N_("to plan"), "good"),
}

SAID: Final = (N_("The date needs another look."), N_("Give a date in that time."))


@blueprint.get("/reminders/simulator")
@signed_in
def show() -> AnyResponse:
    """With the certificates, settings and answers of today. Nothing is sent or written."""
    visit, written = current_visit(), request.args.get("date", "").strip()
    try:
        at = _utc(written) if written else visit.now
    except Rejected as error:
        return make_response(_page(written, error=error), HTTPStatus.UNPROCESSABLE_ENTITY)
    page = visit.page({"date": at.isoformat()}, limit=CERTIFICATES)
    found = reminder_preview.preview(visit.session, visit.caller.account_id, at=at, page=page)
    return make_response(_page(f"{at:%Y-%m-%dT%H:%M}", found=found))


def _utc(written: str) -> datetime:
    """What ``datetime-local`` gives has no offset: it is UTC, as the page says."""
    has_time = "T" in written and not written.endswith("Z")
    return reminder_preview.checked_moment(f"{written}Z" if has_time else written)


def _page(written: str, *, found: reminder_preview.Preview | None = None, error: Rejected | None = None) -> str:
    return render(
        "reminders_simulator.html",
        written=written,
        found=found,
        error=error,
        is_later_page=bool(request.args.get("cursor")),
        reasons=REASONS,
        urgencies=URGENCIES,
    )
