"""/v1/managed-certificates: what the account's certificate services offer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.managed import OfferPage, OfferQuery, SourcesOut
from shared.usecases.catalogue import OfferFilters, ask_anew, list_catalogues, list_offers

blueprint = Resource("managed_certificates", __name__, tag="Certificates")


@blueprint.get("/v1/managed-certificates")
@authorized(Scope.READ)
@blueprint.takes(OfferQuery, location="query")
@blueprint.answers(OfferPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List what the account's certificate services offer, as they were last asked.

    Give an id as managed_certificate_id of POST /v1/certificates with source managed.
    """
    call = current_call()
    page = call.page(query_data)
    found = list_offers(call.session, call.caller, OfferFilters(**query_data), page)
    sources = list_catalogues(call.context, call.session, call.caller)
    return {"items": found.items, "next_cursor": found.next_cursor, "sources": sources}


@blueprint.post("/v1/managed-certificates/refresh")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(SourcesOut, HTTPStatus.ACCEPTED, description="Accepted; the services are asked in the background.")
def refresh(json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Have the account's certificate services asked now what they offer."""
    call = current_call()
    ask_anew(call.context, call.session, call.caller, now=call.now)
    return {"sources": list_catalogues(call.context, call.session, call.caller)}, HTTPStatus.ACCEPTED
