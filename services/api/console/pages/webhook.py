"""One webhook endpoint: what it hears, its deliveries, and what can be done: test, switch, rotate, delete."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import _
from services.api.console.pages.webhooks import secret_page
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from services.api.console.webhooks_words import host_of, subscribable
from shared.domain.webhooks import ROTATION_OVERLAP, DeliveryState, SignatureScheme
from shared.errors import Rejected
from shared.models import WebhookEndpoint
from shared.schemas.webhooks import MAX_OVERLAP, RotateIn, WebhookPatchIn
from shared.usecases import webhook_deliveries, webhook_lag, webhooks
from shared.usecases.webhook_deliveries import DeliveryFilters
from shared.usecases.webhooks import Changes

blueprint = Pages("webhook", __name__)

DELIVERIES: Final = 25
"""Rows of the list; each is read with all of its attempts."""

MAX_TYPE: Final = 64

OVERLAPS: Final = (timedelta(0), timedelta(hours=1), ROTATION_OVERLAP, MAX_OVERLAP)


@blueprint.get("/webhooks/<webhook_id>")
@signed_in
def show(webhook_id: str) -> str:
    """What it is, and its deliveries, newest first."""
    visit, chosen = current_visit(), _chosen()
    endpoint = find(webhook_id)
    filters = DeliveryFilters(state=chosen["state"], event_type=chosen["type"])
    found = webhook_deliveries.list_deliveries(
        visit.session,
        visit.caller.account_id,
        webhook_id,
        page=visit.page(dict(chosen), limit=DELIVERIES),
        filters=filters,
    )
    return render(
        "webhook.html",
        endpoint=endpoint,
        host=host_of(endpoint.url),
        lag=webhook_lag.lags(visit.session, [endpoint.id]).get(endpoint.id),
        most_counted=webhook_lag.MOST_COUNTED,
        deliveries=found.items,
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        is_filtered=any(chosen.values()),
        states=list(DeliveryState),
        types=[name for name, _meaning in subscribable()],
    )


@blueprint.post("/webhooks/<webhook_id>/test")
@signed_in
def send_test(webhook_id: str) -> AnyResponse:
    """Send a test event, and look at its delivery."""
    visit = current_visit()
    sent = webhook_deliveries.send_test(visit.session, visit.caller, webhook_id, now=visit.now)
    return redirect(f"/webhooks/{webhook_id}/deliveries/{sent.delivery.id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/webhooks/<webhook_id>/enable")
@signed_in
def enable(webhook_id: str) -> AnyResponse:
    """Send events again, from now on."""
    _switch(webhook_id, {"enabled": True})
    current_visit().say(_("Enabled. What it missed is not sent by itself: replay it."))
    return redirect(f"/webhooks/{webhook_id}", HTTPStatus.SEE_OTHER)


@blueprint.get("/webhooks/<webhook_id>/disable")
@signed_in
def ask_disabling(webhook_id: str) -> AnyResponse:
    """What is cancelled, and a place for the reason."""
    return _disabling(webhook_id)


@blueprint.post("/webhooks/<webhook_id>/disable")
@signed_in
def disable(webhook_id: str) -> AnyResponse:
    """Send nothing any more; what waits is cancelled."""
    reason = request.form.get("disabled_reason", "").strip()
    try:
        _switch(webhook_id, {"enabled": False, **({"disabled_reason": reason} if reason else {})})
    except Rejected as error:
        return _disabling(webhook_id, error=error)
    current_visit().say(_("Disabled. What waited for it is cancelled."))
    return redirect(f"/webhooks/{webhook_id}", HTTPStatus.SEE_OTHER)


@blueprint.get("/webhooks/<webhook_id>/rotate")
@signed_in
def ask_rotation(webhook_id: str) -> AnyResponse:
    """How long the old one signs too, and in which way it is signed from now on."""
    return _rotation(webhook_id)


@blueprint.post("/webhooks/<webhook_id>/rotate")
@signed_in
def rotate(webhook_id: str) -> AnyResponse:
    """Make a new secret or key pair, and show it, this once."""
    visit = current_visit()
    try:
        wanted = checked(RotateIn(), overlap_body() | {"signature_scheme": request.form.get("signature_scheme")})
    except Rejected as error:
        return _rotation(webhook_id, error=error)
    scheme = wanted["signature_scheme"]
    shown = webhooks.rotate_secret(
        visit.context,
        visit.session,
        visit.caller,
        webhook_id,
        now=visit.now,
        overlap=timedelta(seconds=wanted["overlap_seconds"]),
        scheme=scheme and SignatureScheme(scheme),
    )
    return secret_page(find(webhook_id), shown, title=_("Signed with a new secret from now on"))


@blueprint.get("/webhooks/<webhook_id>/delete")
@signed_in
def ask_deletion(webhook_id: str) -> str:
    """What would be gone."""
    visit, endpoint = current_visit(), find(webhook_id)
    lag = webhook_lag.lags(visit.session, [endpoint.id]).get(endpoint.id)
    return render(
        "webhook_delete.html", endpoint=endpoint, host=host_of(endpoint.url), waiting=lag.pending if lag else 0
    )


@blueprint.post("/webhooks/<webhook_id>/delete")
@signed_in
def delete(webhook_id: str) -> AnyResponse:
    """Never call it again, and destroy its secret."""
    visit = current_visit()
    webhooks.delete_webhook(visit.session, visit.caller, webhook_id, now=visit.now)
    visit.say(_("The endpoint is deleted, its secret destroyed."))
    return redirect("/webhooks", HTTPStatus.SEE_OTHER)


def find(webhook_id: str) -> WebhookEndpoint:
    """The account's endpoint.

    Raises:
        NotFound: none of that id in this account.
    """
    visit = current_visit()
    return webhooks.get_webhook(visit.session, visit.caller.account_id, webhook_id)


def overlap_body() -> dict[str, Any]:
    """The form's choice of an overlap, as the API's body has it."""
    text = request.form.get("overlap_seconds", "")
    return {"overlap_seconds": int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else text}


_DIGITS: Final = 10


def _switch(webhook_id: str, body: dict[str, Any]) -> None:
    visit = current_visit()
    changes = Changes(**checked(WebhookPatchIn(), body))
    webhooks.update_webhook(visit.context, visit.session, visit.caller, webhook_id, changes=changes, now=visit.now)


def _disabling(webhook_id: str, *, error: Rejected | None = None) -> AnyResponse:
    return _form("webhook_disable.html", webhook_id, error=error)


def _rotation(webhook_id: str, *, error: Rejected | None = None) -> AnyResponse:
    return _form("webhook_rotate.html", webhook_id, error=error, overlaps=OVERLAPS, chosen=ROTATION_OVERLAP)


def _form(template: str, webhook_id: str, *, error: Rejected | None, **values: Any) -> AnyResponse:
    endpoint = find(webhook_id)
    page = render(template, endpoint=endpoint, host=host_of(endpoint.url), error=error, **values)
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    state = request.args.get("state")
    return {
        "state": DeliveryState(state) if state in set(DeliveryState) else None,
        "type": request.args.get("type", "").strip()[:MAX_TYPE] or None,
    }
