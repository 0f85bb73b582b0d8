"""/v1/regions: where certificates can go."""

from __future__ import annotations

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.regions import RegionPage
from shared.usecases.regions import list_regions

blueprint = Resource("regions", __name__, tag="Regions")


@blueprint.get("/v1/regions")
@authorized(Scope.READ)
@blueprint.answers(RegionPage)
def index() -> ResponseReturnValueType:
    """List the regions: what they take and can do, the quota, and how they fare."""
    call = current_call()
    return {"items": list_regions(call.context, call.session, call.caller, now=call.now), "next_cursor": None}
