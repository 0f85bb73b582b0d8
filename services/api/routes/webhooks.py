"""/v1/webhooks: where events go, the secrets that sign them, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import Call, authorized, current_call
from services.api.resource import Resource
from shared.domain.lanes import Condition, Lane
from shared.domain.scopes import Scope
from shared.domain.webhooks import DeliveryState, SignatureScheme
from shared.models import WebhookEndpoint
from shared.schemas.base import Nothing
from shared.schemas.webhooks import (
    DeliveryOut,
    DeliveryPage,
    DeliveryQuery,
    OverlapIn,
    RotatedOut,
    RotateIn,
    SecretOut,
    WebhookCreatedOut,
    WebhookIn,
    WebhookOut,
    WebhookPage,
    WebhookPatchIn,
    WebhookQuery,
)
from shared.usecases import accounts, webhook_deliveries, webhook_lag, webhook_lanes, webhooks
from shared.usecases.webhook_deliveries import DeliveryFilters, LoggedDelivery
from shared.usecases.webhook_lag import Lag
from shared.usecases.webhooks import Changes, NewWebhook

blueprint = Resource("webhooks", __name__, tag="Webhooks")


@blueprint.post("/v1/webhooks")
@authorized(Scope.WRITE)
@blueprint.takes(WebhookIn)
@blueprint.answers(WebhookCreatedOut, HTTPStatus.CREATED, description="Made; the secret is shown this once.")
def create(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Register an endpoint for events.

    The answer holds what verifies our signatures (Standard Webhooks): a secret, which is not shown again, or with
    ed25519 a public key.
    """
    call = current_call()
    request = NewWebhook(**_chosen(json_data))
    endpoint, shown = webhooks.create_webhook(call.context, call.session, call.caller, request, now=call.now)
    answer = {**_endpoint(call, endpoint), "secret": shown.secret}
    return answer, HTTPStatus.CREATED, {"Location": f"/v1/webhooks/{endpoint.id}"}


@blueprint.get("/v1/webhooks")
@authorized(Scope.READ)
@blueprint.takes(WebhookQuery, location="query")
@blueprint.answers(WebhookPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List endpoints, newest first."""
    call = current_call()
    page = call.page(query_data)
    found = webhooks.list_webhooks(call.session, call.caller.account_id, page, job_id=query_data["job_id"])
    return {"items": _endpoints(call, found.items), "next_cursor": found.next_cursor}


@blueprint.get("/v1/webhooks/callback-secret")
@authorized(Scope.WRITE)
@blueprint.answers(SecretOut)
def show_callback_secret() -> ResponseReturnValueType:
    """Look at the secret that signs deliveries to your jobs' callback_url. Needs the scope write."""
    call = current_call()
    return {"secret": accounts.callback_secret(call.session, call.context.vault, call.caller.account_id)}


@blueprint.post("/v1/webhooks/callback-secret/rotate")
@authorized(Scope.WRITE)
@blueprint.takes(OverlapIn)
@blueprint.answers(SecretOut)
def rotate_callback_secret(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Replace the callback secret. For a while every callback carries a signature of the old one, too."""
    call = current_call()
    overlap = timedelta(seconds=json_data["overlap_seconds"])
    secret = webhooks.rotate_callback_secret(call.context, call.session, call.caller, now=call.now, overlap=overlap)
    return {"secret": secret}


@blueprint.get("/v1/webhooks/<webhook_id>")
@authorized(Scope.READ)
@blueprint.answers(WebhookOut)
def show(webhook_id: str) -> ResponseReturnValueType:
    """Look at an endpoint."""
    call = current_call()
    return _endpoint(call, webhooks.get_webhook(call.session, call.caller.account_id, webhook_id))


@blueprint.patch("/v1/webhooks/<webhook_id>")
@authorized(Scope.WRITE)
@blueprint.takes(WebhookPatchIn)
@blueprint.answers(WebhookOut)
def edit(webhook_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Change, disable or enable an endpoint. Disabling cancels what waits for it."""
    call = current_call()
    changes = Changes(**_chosen(json_data))
    endpoint = webhooks.update_webhook(
        call.context, call.session, call.caller, webhook_id, changes=changes, now=call.now
    )
    return _endpoint(call, endpoint)


@blueprint.delete("/v1/webhooks/<webhook_id>")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.output({}, HTTPStatus.NO_CONTENT.value, description="Deleted; what waited for it is cancelled.")
def remove(webhook_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Delete an endpoint and destroy its secret."""
    call = current_call()
    webhooks.delete_webhook(call.session, call.caller, webhook_id, now=call.now)
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/v1/webhooks/<webhook_id>/rotate")
@authorized(Scope.WRITE)
@blueprint.takes(RotateIn)
@blueprint.answers(RotatedOut)
def rotate(webhook_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Make a new secret, shown this once, or key pair; signature_scheme changes over to the other kind.

    For a while every delivery carries a signature of the old one, too.
    """
    call = current_call()
    scheme = json_data["signature_scheme"]
    shown = webhooks.rotate_secret(
        call.context,
        call.session,
        call.caller,
        webhook_id,
        now=call.now,
        overlap=timedelta(seconds=json_data["overlap_seconds"]),
        scheme=scheme and SignatureScheme(scheme),
    )
    return {"signature_scheme": shown.scheme, "secret": shown.secret, "public_key": shown.public_key}


@blueprint.post("/v1/webhooks/<webhook_id>/test")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(DeliveryOut, HTTPStatus.ACCEPTED, description="On its way; look at the delivery.")
def send_test(webhook_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Send a webhook.test event to this endpoint only."""
    call = current_call()
    delivery = webhook_deliveries.send_test(call.session, call.caller, webhook_id, now=call.now)
    return _delivery(delivery), HTTPStatus.ACCEPTED


@blueprint.get("/v1/webhooks/<webhook_id>/deliveries")
@authorized(Scope.READ)
@blueprint.takes(DeliveryQuery, location="query")
@blueprint.answers(DeliveryPage)
def deliveries(webhook_id: str, query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List an endpoint's deliveries, newest first, with every attempt."""
    call = current_call()
    page = call.page(query_data)
    state = query_data["state"]
    filters = DeliveryFilters(state=state and DeliveryState(state), event_type=query_data["event_type"])
    found = webhook_deliveries.list_deliveries(
        call.session, call.caller.account_id, webhook_id, page=page, filters=filters
    )
    return {"items": [_delivery(one) for one in found.items], "next_cursor": found.next_cursor}


@blueprint.get("/v1/webhooks/<webhook_id>/deliveries/<delivery_id>")
@authorized(Scope.READ)
@blueprint.answers(DeliveryOut)
def show_delivery(webhook_id: str, delivery_id: str) -> ResponseReturnValueType:
    """Look at a delivery and its attempts."""
    call = current_call()
    found = webhook_deliveries.get_delivery(call.session, call.caller.account_id, webhook_id, delivery_id=delivery_id)
    return _delivery(found)


@blueprint.post("/v1/webhooks/<webhook_id>/deliveries/<delivery_id>/replay")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(DeliveryOut, HTTPStatus.ACCEPTED, description="On its way again; look at the delivery.")
def replay(webhook_id: str, delivery_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Send a delivery again: the same id, the same body, the whole retry schedule anew."""
    call = current_call()
    found = webhook_deliveries.replay_delivery(
        call.session, call.caller, webhook_id, delivery_id=delivery_id, now=call.now
    )
    return _delivery(found), HTTPStatus.ACCEPTED


def _chosen(json_data: dict[str, Any]) -> dict[str, Any]:
    """The body's values as use cases take them."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in json_data.items()}
    if "signature_scheme" in json_data:
        values["signature_scheme"] = SignatureScheme(json_data["signature_scheme"])
    return values


def _endpoint(call: Call, endpoint: WebhookEndpoint) -> dict[str, Any]:
    return _endpoints(call, [endpoint])[0]


def _endpoints(call: Call, endpoints: Sequence[WebhookEndpoint]) -> list[dict[str, Any]]:
    lags = webhook_lag.lags(call.session, [endpoint.id for endpoint in endpoints])
    lanes = webhook_lanes.shown(call.session, {endpoint.lane for endpoint in endpoints})
    return [
        {
            **WebhookOut().dump(each),
            "lag": _lag(lags.get(each.id), now=call.now),
            "receiver": _receiver(lanes.get(each.lane, Lane()), now=call.now),
        }
        for each in endpoints
    ]


def _receiver(lane: Lane, *, now: datetime) -> dict[str, Any]:
    condition = lane.condition(now)
    rests_until = lane.rests_until if condition is Condition.RESTING else None
    return {"state": condition, "failures": lane.failures, "rests_until": rests_until}


def _lag(lag: Lag | None, *, now: datetime) -> dict[str, Any]:
    if lag is None:
        return {"pending": 0, "oldest_seconds": 0.0}
    return {"pending": lag.pending, "oldest_seconds": lag.oldest_seconds(now)}


def _delivery(logged: LoggedDelivery) -> dict[str, Any]:
    document: dict[str, Any] = DeliveryOut().dump(logged.delivery)
    return {**document, "event_type": logged.event.type, "attempts": logged.attempts}
