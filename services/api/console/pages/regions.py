"""Regions: how healthy each is, how much room is left, and what is there; and one of them with its contents."""

from __future__ import annotations

from typing import Final

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.usecases import browsing
from shared.usecases.browsing import CertificateFilters
from shared.usecases.listeners import ListenerFilters, list_listeners
from shared.usecases.region_contents import NOTHING, region_contents
from shared.usecases.regions import get_region, list_regions

blueprint = Pages("regions", __name__, entry=NavigationEntry(title=N_("Regions"), address="/regions", place=30))

NEAR: Final = 20
"""Listeners that a region's page shows; the list of listeners shows the others."""


@blueprint.get("/regions")
@signed_in
def index() -> str:
    """Every declared region, in the operator's order."""
    visit = current_visit()
    return render(
        "regions.html",
        regions=list_regions(visit.context, visit.session, visit.caller, now=visit.now),
        contents=region_contents(visit.session, visit.caller),
        nothing=NOTHING,
    )


@blueprint.get("/regions/<region_id>")
@signed_in
def show(region_id: str) -> str:
    """One region: its certificates page by page, and its newest listeners."""
    visit = current_visit()
    region = get_region(visit.context, visit.session, visit.caller, region_id, now=visit.now)
    filters = CertificateFilters(region=region_id, sort="expires")
    certificates = browsing.list_certificates(visit.session, visit.caller, filters, visit.page({"region": region_id}))
    nearby = visit.first_page(limit=NEAR)
    listeners = list_listeners(visit.session, visit.caller, ListenerFilters(region=region_id), nearby)
    return render(
        "regions_one.html",
        region=region,
        inside=region_contents(visit.session, visit.caller).get(region_id, NOTHING),
        certificates=[_here(certificate, region_id) for certificate in certificates.items],
        next_cursor=certificates.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        listeners=listeners.items,
        has_more_listeners=listeners.next_cursor is not None,
    )


def _here(certificate: browsing.Document, region_id: str) -> browsing.Document:
    """The certificate, and what it is in this region (``here``)."""
    here = next(one for one in certificate["deployments"] if one["region"] == region_id)
    return {**certificate, "here": here}
