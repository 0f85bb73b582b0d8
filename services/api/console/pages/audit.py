"""Audit: who did what to what, newest first."""

from __future__ import annotations

from typing import Any, Final

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.usecases import audit
from shared.usecases.audit import AuditFilters

blueprint = Pages("audit", __name__, entry=NavigationEntry(title=N_("Audit"), address="/audit", place=80))

NOUNS: Final = {
    "certificate": N_("certificates"),
    "deployment": N_("regions of certificates"),
    "listener": N_("listeners"),
    "job": N_("jobs"),
    "reminders": N_("reminders"),
    "webhook": N_("webhooks"),
    "calendar_feed": N_("calendars"),
    "account": N_("the account"),
    "person": N_("people"),
    "token": N_("API tokens"),
}
"""What an action begins with, and what it is about."""

DEEDS: Final = {
    "certificate.submitted": N_("submitted a certificate"),
    "certificate.edited": N_("changed what is said about a certificate"),
    "certificate.regions_added": N_("added regions to a certificate"),
    "certificate.replaced": N_("replaced a certificate"),
    "certificate.renewed": N_("renewed a certificate"),
    "certificate.downloaded": N_("downloaded a certificate with its key"),
    "certificate.deletion_requested": N_("deleted a certificate"),
    "deployment.retried": N_("retried a region"),
    "deployment.removed": N_("removed a certificate from a region"),
    "listener.created": N_("created a listener"),
    "listener.changed": N_("changed a listener"),
    "listener.deletion_requested": N_("deleted a listener"),
    "job.cancellation_requested": N_("cancelled a job"),
    "reminders.acknowledged": N_("acknowledged reminders"),
    "reminders.acknowledgement_withdrawn": N_("withdrew an acknowledgement"),
    "reminders.snoozed": N_("snoozed reminders"),
    "reminders.snooze_ended": N_("ended a snooze"),
    "reminders.muted": N_("muted reminders"),
    "reminders.unmuted": N_("switched reminders on again"),
    "reminders.unsubscribed": N_("unsubscribed from reminders"),
    "reminders.subscribed_again": N_("subscribed to reminders again"),
    "webhook.created": N_("created a webhook"),
    "webhook.changed": N_("changed a webhook"),
    "webhook.deleted": N_("deleted a webhook"),
    "webhook.disabled": N_("disabled a webhook that only failed"),
    "webhook.secret_rotated": N_("rotated a webhook's secret"),
    "webhook.callback_secret_rotated": N_("rotated the secret of callbacks"),
    "webhook.callback_secret_shown": N_("looked at the secret of callbacks"),
    "webhook.delivery_replayed": N_("replayed a delivery"),
    "webhook.replay_started": N_("began a replay"),
    "webhook.replay_cancelled": N_("cancelled a replay"),
    "calendar_feed.created": N_("created a calendar"),
    "calendar_feed.rotated": N_("gave a calendar a new address"),
    "calendar_feed.revoked": N_("revoked a calendar"),
    "account.changed": N_("changed the account's settings"),
    "person.invited": N_("invited somebody"),
    "person.invited_again": N_("made somebody another first link"),
    "person.removed": N_("removed somebody"),
    "person.password_changed": N_("changed the own password"),
    "token.created": N_("created an API token"),
    "token.revoked": N_("revoked an API token"),
}
"""Each action in words; one that is not here shows as it is spelled."""

PLACES: Final = {"cert": "/certificates/", "job": "/jobs/", "lsn": "/listeners/", "whk": "/webhooks/"}
"""Where an id leads, by its prefix."""

MOST: Final = 300
"""Characters of a filter."""


@blueprint.get("/audit")
@signed_in
def index() -> str:
    """Filter and page through it."""
    visit, chosen = current_visit(), _chosen()
    found = audit.list_entries(visit.session, visit.caller, AuditFilters(**chosen), visit.page(dict(chosen)))
    return render(
        "audit.html",
        entries=found.items,
        names=audit.names_of_actors(visit.session, visit.caller, [entry.actor for entry in found.items]),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        nouns=NOUNS,
        deeds=DEEDS,
        place_of=_place_of,
    )


def _chosen() -> dict[str, Any]:
    """The filters of the address."""
    return {name: request.args.get(name, "").strip()[:MOST] or None for name in ("actor", "action", "target")}


def _place_of(target: str) -> str | None:
    prefix = PLACES.get(target.partition("_")[0])
    return f"{prefix}{target}" if prefix else None
