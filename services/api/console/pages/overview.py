"""The start page: what ends when, what somebody should look at, and what is really served of what where."""

from __future__ import annotations

from typing import Any, Final

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.chart import HEIGHT, WIDTH, chart
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.rollout import ServedState
from shared.usecases.outlook import Urgency, attention, by_urgency, endings
from shared.usecases.region_contents import region_contents
from shared.usecases.regions import list_regions
from shared.usecases.served import ServedFilters, list_served

blueprint = Pages("overview", __name__, entry=NavigationEntry(title=N_("Overview"), address="/overview", place=5))

MAX_QUERY: Final = 200
CELLS: Final = 200
"""Of the matrix on one page; the more regions, the fewer certificates, so that the page stays light."""

FEWEST_ROWS: Final = 5
MOST_ROWS: Final = 20


@blueprint.get("/overview")
@signed_in
def index() -> str:
    """All of it: about ten statements, however many certificates there are."""
    visit, chosen = current_visit(), _chosen()
    regions = list_regions(visit.context, visit.session, visit.caller, now=visit.now)
    contents = region_contents(visit.session, visit.caller)
    ending = endings(visit.session, visit.caller, now=visit.now)
    columns = [one for one in regions if chosen["region"] in {None, one["id"]}]
    rows = max(FEWEST_ROWS, min(MOST_ROWS, CELLS // max(1, len(columns))))
    served = list_served(
        visit.session, visit.caller, _filters(chosen), visit.page(dict(chosen), limit=rows), now=visit.now
    )
    return render(
        "overview.html",
        urgencies=by_urgency(ending),
        Urgency=Urgency,
        chart=chart(ending, visit.now),
        width=WIDTH,
        height=HEIGHT,
        attention=attention(visit.session, visit.caller, contents=contents.values(), regions=regions),
        rows=served.items,
        columns=columns,
        regions=regions,
        next_cursor=served.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        is_filtered=any(chosen.values()),
        served_states=list(ServedState),
    )


def _filters(chosen: dict[str, Any]) -> ServedFilters:
    return ServedFilters(
        region=chosen["region"], state=chosen["state"], q=chosen["q"], is_drifting=bool(chosen["drift"])
    )


def _chosen() -> dict[str, Any]:
    """The filters of the matrix; what we do not know counts as not given."""
    given = request.args
    return {
        "q": given.get("q", "").strip()[:MAX_QUERY] or None,
        "region": given.get("region") if given.get("region") in current_visit().context.settings.regions else None,
        "state": given.get("state") if given.get("state") in set(ServedState) else None,
        "drift": "1" if given.get("drift") else None,
    }
