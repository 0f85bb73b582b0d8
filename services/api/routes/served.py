"""/v1/served: certificate by region, what clients really get, and how old the proof is."""

from __future__ import annotations

from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.served import ServedPage, ServedQuery
from shared.usecases.served import ServedFilters, list_served

blueprint = Resource("served", __name__, tag="Listeners")


@blueprint.get("/v1/served")
@authorized(Scope.READ)
@blueprint.takes(ServedQuery, location="query")
@blueprint.answers(ServedPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """See what is really served: every certificate in every region, with the age of each proof."""
    call = current_call()
    page = call.page(query_data)
    found = list_served(call.session, call.caller, ServedFilters(**query_data), page, now=call.now)
    return {"items": found.items, "next_cursor": found.next_cursor}
