"""The ledger of reminders: who was told of what, when, or why not."""

from __future__ import annotations

from typing import Any, Final

from flask import request

from services.api.console.blueprint import Pages, signed_in
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.reminders import ReminderState
from shared.usecases.reminder_ledger import ReminderFilters, list_reminders

blueprint = Pages("reminders_sent", __name__)

MAX_ID: Final = 64


@blueprint.get("/reminders/sent")
@signed_in
def index() -> str:
    """Newest first, by state or of one certificate."""
    visit, chosen = current_visit(), _chosen()
    found = list_reminders(visit.session, visit.caller, ReminderFilters(**chosen), visit.page(dict(chosen)))
    return render(
        "reminders_sent.html",
        reminders=found.items,
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        is_filtered=any(chosen.values()),
        states=[state.value for state in ReminderState],
    )


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    state = request.args.get("state")
    return {
        "state": state if state in set(ReminderState) else None,
        "certificate": request.args.get("certificate", "").strip()[:MAX_ID] or None,
    }
