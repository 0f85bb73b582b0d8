"""The list of certificates: what they are for, when they end, where they are, and what is really served."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.certificates import CertificateType
from shared.schemas.certificates import SORTS, STATES
from shared.usecases import browsing
from shared.usecases.browsing import CertificateFilters

blueprint = Pages(
    "certificates",
    __name__,
    entry=NavigationEntry(title=N_("Certificates"), address="/certificates", place=10),
)

MAX_QUERY: Final = 200
EXPIRIES: Final = ("0", "7", "30", "90")
"""Days from now by which one may ask what ends; 0: what has ended."""

FIRST_SORT: Final = "expires"
"""What ends first is what one looks for."""


@blueprint.get("/certificates")
@signed_in
def index() -> str:
    """Search, sort and page through them. Three statements, however many there are."""
    visit, chosen = current_visit(), _chosen()
    found = browsing.list_certificates(visit.session, visit.caller, _filters(chosen), visit.page(dict(chosen)))
    is_filtered = any(value for name, value in chosen.items() if name != "sort")
    return render(
        "certificates.html",
        certificates=found.items,
        next_cursor=found.next_cursor,
        chosen=chosen,
        is_filtered=is_filtered,
        is_later_page=bool(request.args.get("cursor")),
        regions=visit.context.settings.regions.values(),
        types=list(CertificateType),
        states=STATES,
        expiries=EXPIRIES,
    )


def _filters(chosen: dict[str, Any]) -> CertificateFilters:
    """``expires``: within so many days from now, what has expired included."""
    wanted = {name: value for name, value in chosen.items() if name != "expires"}
    if chosen["expires"] is not None:
        wanted["expires_before"] = current_visit().now + timedelta(days=int(chosen["expires"]))
    return CertificateFilters(**wanted)


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    given = request.args
    sort = given.get("sort", FIRST_SORT)
    days = given.get("expires", "")
    return {
        "q": given.get("q", "").strip()[:MAX_QUERY] or None,
        "type": given.get("type") if given.get("type") in set(CertificateType) else None,
        "region": given.get("region") or None,
        "state": given.get("state") if given.get("state") in STATES else None,
        "expires": days if days in EXPIRIES else None,
        "sort": sort if sort in SORTS else FIRST_SORT,
    }
