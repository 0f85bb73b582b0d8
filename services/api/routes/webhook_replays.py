"""/v1/webhooks/{id}/replay: many events again, from a cursor or a time on."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.models import WebhookReplay
from shared.schemas.base import Nothing, PageQuery
from shared.schemas.webhook_replays import ReplayIn, ReplayOut, ReplayPage
from shared.usecases import webhook_replay
from shared.usecases.webhook_replay import NewReplay

blueprint = Resource("webhook_replays", __name__, tag="Webhooks")


@blueprint.post("/v1/webhooks/<webhook_id>/replay")
@authorized(Scope.WRITE)
@blueprint.takes(ReplayIn)
@blueprint.answers(ReplayOut, HTTPStatus.ACCEPTED, description="Begun; look at the replay.")
def start(webhook_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Send events again, from a cursor or a time on: the same ids, the same bodies.

    They are queued in the order of their sequence, batch by batch; a batch follows when all of the one before has been
    tried. One replay of an endpoint runs at a time: a second one is refused with 409 replay_running.
    """
    call = current_call()
    request = NewReplay(**{**json_data, "types": tuple(json_data["types"])})
    replay = webhook_replay.start_replay(call.session, call.caller, webhook_id, request=request, now=call.now)
    location = f"/v1/webhooks/{webhook_id}/replays/{replay.id}"
    return _replay(replay), HTTPStatus.ACCEPTED, {"Location": location}


@blueprint.get("/v1/webhooks/<webhook_id>/replays")
@authorized(Scope.READ)
@blueprint.takes(PageQuery, location="query")
@blueprint.answers(ReplayPage)
def index(webhook_id: str, query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List an endpoint's replays, newest first."""
    call = current_call()
    page = call.page(query_data)
    found = webhook_replay.list_replays(call.session, call.caller.account_id, webhook_id, page=page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.get("/v1/webhooks/<webhook_id>/replays/<replay_id>")
@authorized(Scope.READ)
@blueprint.answers(ReplayOut)
def show(webhook_id: str, replay_id: str) -> ResponseReturnValueType:
    """Look how far a replay is."""
    call = current_call()
    found = webhook_replay.get_replay(call.session, call.caller.account_id, webhook_id, replay_id=replay_id)
    return _replay(found)


@blueprint.post("/v1/webhooks/<webhook_id>/replays/<replay_id>/cancel")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(ReplayOut, description="Nothing more is queued.")
def cancel(webhook_id: str, replay_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Stop a replay. What it has queued already is sent."""
    call = current_call()
    found = webhook_replay.cancel_replay(call.session, call.caller, webhook_id, replay_id=replay_id, now=call.now)
    return _replay(found)


def _replay(replay: WebhookReplay) -> dict[str, Any]:
    document: dict[str, Any] = ReplayOut().dump(replay)
    return document
