"""The list of certificates: what they are for, when they end, where they are, and what is really served."""

from __future__ import annotations

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
FIRST_SORT: Final = "expires"
"""What ends first is what one looks for."""


@blueprint.get("/certificates")
@signed_in
def index() -> str:
    """Search, sort and page through them. Three statements, however many there are."""
    visit, chosen = current_visit(), _chosen()
    found = browsing.list_certificates(
        visit.session, visit.caller, CertificateFilters(**chosen), visit.page(dict(chosen))
    )
    is_filtered = any(chosen[name] for name in ("q", "type", "region", "state"))
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
    )


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    given = request.args
    sort = given.get("sort", FIRST_SORT)
    return {
        "q": given.get("q", "").strip()[:MAX_QUERY] or None,
        "type": given.get("type") if given.get("type") in set(CertificateType) else None,
        "region": given.get("region") or None,
        "state": given.get("state") if given.get("state") in STATES else None,
        "sort": sort if sort in SORTS else FIRST_SORT,
    }
