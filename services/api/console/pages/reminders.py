"""What is coming: the certificates that end in the next twelve months, day by day, and a calendar of them."""

from __future__ import annotations

from typing import Final

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.reminders_calendar import WEEKDAYS, by_day, chosen_span, months, year_from
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.usecases import expiries

blueprint = Pages("reminders", __name__, entry=NavigationEntry(title=N_("Reminders"), address="/reminders", place=60))

ROWS: Final = 25


@blueprint.get("/reminders")
@signed_in
def index() -> str:
    """A list of what ends next, or on a day or in a month that was chosen; and the year. Two statements."""
    visit = current_visit()
    today = visit.now.date()
    year, on = year_from(today), request.args.get("on", "")
    span = chosen_span(on, today)
    found = expiries.list_expiries(
        visit.session, visit.caller, span or year, visit.page({"on": on} if span else {}, limit=ROWS)
    )
    return render(
        "reminders.html",
        days=by_day(found.items),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen={"on": on if span else None},
        span=span,
        months=months(expiries.count_by_day(visit.session, visit.caller, year), today),
        weekdays=WEEKDAYS,
    )
