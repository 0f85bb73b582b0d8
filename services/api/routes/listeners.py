"""/v1/listeners: put certificates in front of clients, and see what these really get."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.accepted import DESCRIPTION, accepted
from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.listeners import (
    ListenerAcceptedOut,
    ListenerIn,
    ListenerOut,
    ListenerPage,
    ListenerPatchIn,
    ListenerQuery,
)
from shared.usecases import listeners
from shared.usecases.listeners import ListenerFilters, NewListener

blueprint = Resource("listeners", __name__, tag="Listeners")


@blueprint.post("/v1/listeners")
@authorized(Scope.WRITE)
@blueprint.takes(ListenerIn)
@blueprint.answers(ListenerAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def create(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Create a listener.

    It is bound in the background, and counts as bound when a real handshake showed the certificate.
    """
    call = current_call()
    wanted = NewListener(**{**json_data, "hosts": tuple(json_data["hosts"])})
    job, listener = listeners.create_listener(call.context, call.session, call.caller, wanted, now=call.now)
    return accepted(call, job, listener=listeners.listener_document(listener))


@blueprint.get("/v1/listeners")
@authorized(Scope.READ)
@blueprint.takes(ListenerQuery, location="query")
@blueprint.answers(ListenerPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List listeners."""
    call = current_call()
    page = call.page(query_data)
    found = listeners.list_listeners(call.session, call.caller, ListenerFilters(**query_data), page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.get("/v1/listeners/<listener_id>")
@authorized(Scope.READ)
@blueprint.answers(ListenerOut)
def show(listener_id: str) -> ResponseReturnValueType:
    """Look at a listener, and at what its clients really get."""
    call = current_call()
    return listeners.listener_document(listeners.find_listener(call.session, call.caller, listener_id))


@blueprint.patch("/v1/listeners/<listener_id>")
@authorized(Scope.WRITE)
@blueprint.takes(ListenerPatchIn)
@blueprint.answers(ListenerAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def change(listener_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Change a listener; without any difference, bind and prove it again.

    What is served now stays until the change is proven; a change that fails is put back.
    """
    call = current_call()
    job, listener = listeners.change_listener(
        call.context, call.session, call.caller, listener_id, json_data, now=call.now
    )
    return accepted(call, job, listener=listeners.listener_document(listener))


@blueprint.delete("/v1/listeners/<listener_id>")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(ListenerAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def remove(listener_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Stop serving a listener's host names; its certificates stay in the region."""
    call = current_call()
    job, listener = listeners.delete_listener(call.session, call.caller, listener_id, now=call.now)
    return accepted(call, job, listener=listeners.listener_document(listener))
