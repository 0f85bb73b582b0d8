"""/v1/audit: who did what."""

from __future__ import annotations

from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.audit import AuditPage, AuditQuery
from shared.usecases import audit
from shared.usecases.audit import AuditFilters

blueprint = Resource("audit", __name__, tag="Audit")


@blueprint.get("/v1/audit")
@authorized(Scope.READ)
@blueprint.takes(AuditQuery, location="query")
@blueprint.answers(AuditPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List who did what, newest first."""
    call = current_call()
    page = call.page(query_data)
    found = audit.list_entries(call.session, call.caller, AuditFilters(**query_data), page)
    return {"items": found.items, "next_cursor": found.next_cursor}
