"""Add a certificate: upload it or pick it from a certificate service, choose regions, create."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, get_args

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.rendering import render
from services.api.console.uploads import certificate_body, checked
from services.api.console.visits import current_visit
from services.api.requests import new_certificate
from shared.crypto.samples import SampleKind, sample
from shared.domain.certificates import CertificateSource
from shared.errors import Rejected
from shared.schemas.certificates import CertificateIn
from shared.usecases.catalogue import OfferFilters, list_catalogues, list_offers
from shared.usecases.regions import list_regions
from shared.usecases.submission import submit_certificate

blueprint = Pages("add", __name__)

OFFERS: Final = 20
"""Certificates of services on one page of the form."""

MAX_QUERY: Final = 200


@blueprint.get("/certificates/add")
@signed_in
def ask() -> AnyResponse:
    """Show the form."""
    source = CertificateSource.MANAGED if request.args.get("source") == "managed" else CertificateSource.THIRD_PARTY
    return _form({"source": source, "type": "server", "regions": []})


@blueprint.post("/certificates/add")
@signed_in
def create() -> AnyResponse:
    """Submit it as ``POST /v1/certificates`` does, and show the job."""
    visit = current_visit()
    body = certificate_body()
    try:
        wanted = new_certificate(checked(CertificateIn(), body))
        with visit.session.begin_nested():
            submitted = submit_certificate(visit.context, visit.session, visit.caller, wanted, now=visit.now)
    except Rejected as error:
        return _form(body, error=error)
    return redirect(f"/jobs/{submitted.job.id}", HTTPStatus.SEE_OTHER)


def _form(body: dict[str, Any], *, error: Rejected | None = None) -> AnyResponse:
    """What was typed is shown again, but never the key: no secret is ever in a page."""
    visit = current_visit()
    is_managed = body.get("source") == CertificateSource.MANAGED
    page = render(
        "add.html",
        typed={name: value for name, value in body.items() if name != "private_key"},
        error=error,
        had_key=request.method == "POST" and "private_key" in body,
        regions=list_regions(visit.context, visit.session, visit.caller, now=visit.now),
        samples={kind: sample(kind) for kind in get_args(SampleKind)},
        is_later_page=bool(request.args.get("cursor")),
        **(_offered() if is_managed else {}),
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _offered() -> dict[str, Any]:
    """What the account's certificate services offer, by search and page, and how their lists are."""
    visit = current_visit()
    q = request.args.get("q", "").strip()[:MAX_QUERY] or None
    page = visit.page({"source": "managed", "q": q}, limit=OFFERS)
    found = list_offers(visit.session, visit.caller, OfferFilters(q=q), page)
    catalogues = list_catalogues(visit.context, visit.session, visit.caller)
    return {"q": q, "offers": found.items, "next_cursor": found.next_cursor, "catalogues": catalogues}
