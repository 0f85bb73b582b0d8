"""One delivery: the event's payload, every attempt and what the receiver answered, and sending it again."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import redirect
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import _
from services.api.console.pages.webhook import find
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from services.api.console.webhooks_words import host_of
from shared.domain.webhooks import DeliveryState
from shared.events.log import payload
from shared.usecases import webhook_deliveries

blueprint = Pages("webhook_deliveries", __name__)


@blueprint.get("/webhooks/<webhook_id>/deliveries/<delivery_id>")
@signed_in
def show(webhook_id: str, delivery_id: str) -> str:
    """Look at it. While it is on its way the page looks again by itself."""
    visit, endpoint = current_visit(), find(webhook_id)
    found = webhook_deliveries.get_delivery(visit.session, visit.caller.account_id, webhook_id, delivery_id=delivery_id)
    return render(
        "webhook_deliveries.html",
        endpoint=endpoint,
        host=host_of(endpoint.url),
        delivery=found.delivery,
        event=found.event,
        attempts=found.attempts,
        payload=json.dumps(payload(found.event), ensure_ascii=False, indent=2),
        is_waiting=found.delivery.state == DeliveryState.PENDING,
    )


@blueprint.post("/webhooks/<webhook_id>/deliveries/<delivery_id>/replay")
@signed_in
def replay(webhook_id: str, delivery_id: str) -> AnyResponse:
    """Send it again: the same id, the same body, the whole retry schedule anew."""
    visit = current_visit()
    webhook_deliveries.replay_delivery(visit.session, visit.caller, webhook_id, delivery_id=delivery_id, now=visit.now)
    visit.say(_("On its way again: the same id, the same body."))
    return redirect(f"/webhooks/{webhook_id}/deliveries/{delivery_id}", HTTPStatus.SEE_OTHER)
