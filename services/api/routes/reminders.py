"""/v1/reminders: the ledger, the preview, and what can be answered to the reminders of one certificate."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.certificates import CertificateOut
from shared.schemas.reminders import (
    PreviewOut,
    PreviewQuery,
    RecipientIn,
    ReminderPage,
    ReminderQuery,
    SnoozeIn,
    UnsubscribedList,
)
from shared.usecases import answers, reminder_ledger, reminder_preview
from shared.usecases.browsing import certificate_document

blueprint = Resource("reminders", __name__, tag="Reminders")


@blueprint.get("/v1/reminders")
@authorized(Scope.READ)
@blueprint.takes(ReminderQuery, location="query")
@blueprint.answers(ReminderPage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List who was told of what, newest first: the ledger."""
    call = current_call()
    page = call.page(query_data)
    filters = reminder_ledger.ReminderFilters(**query_data)
    found = reminder_ledger.list_reminders(call.session, call.caller, filters, page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.get("/v1/reminders/preview")
@authorized(Scope.READ)
@blueprint.takes(PreviewQuery, location="query")
@blueprint.answers(PreviewOut)
def preview(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """Show what would be sent at a moment, to whom and why, and why not. Nothing is sent or written.

    As if reminders were looked for at that moment, with today's certificates, settings and answers; of what was sent
    only what was until then. Without a date the next pages need the first one's: `date` of its answer.
    """
    call = current_call()
    page = call.page(query_data)
    at = query_data["date"] or call.now
    found = reminder_preview.preview(call.session, call.caller.account_id, at=at, page=page)
    return reminder_preview.preview_document(found)


@blueprint.post("/v1/certificates/<certificate_id>/acknowledge")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(CertificateOut)
def acknowledge(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Say that somebody takes care of it: no more reminders until three days before its end."""
    call = current_call()
    certificate = answers.acknowledge(call.session, call.caller, certificate_id, now=call.now)
    return certificate_document(call.session, certificate)


@blueprint.delete("/v1/certificates/<certificate_id>/acknowledge")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(CertificateOut)
def withdraw(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Take the acknowledgement back: reminders come again."""
    call = current_call()
    certificate = answers.withdraw_acknowledgement(call.session, call.caller, certificate_id, now=call.now)
    return certificate_document(call.session, certificate)


@blueprint.post("/v1/certificates/<certificate_id>/snooze")
@authorized(Scope.WRITE)
@blueprint.takes(SnoozeIn)
@blueprint.answers(CertificateOut)
def snooze(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Hold its reminders back until a time, at the latest three days before its end."""
    call = current_call()
    until = json_data["until"]
    certificate = answers.snooze(call.session, call.caller, certificate_id, until=until, now=call.now)
    return certificate_document(call.session, certificate)


@blueprint.delete("/v1/certificates/<certificate_id>/snooze")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(CertificateOut)
def end_snooze(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """End the snooze: reminders come again at once."""
    call = current_call()
    certificate = answers.end_snooze(call.session, call.caller, certificate_id, now=call.now)
    return certificate_document(call.session, certificate)


@blueprint.get("/v1/reminders/unsubscribed")
@authorized(Scope.READ)
@blueprint.answers(UnsubscribedList)
def unsubscribed() -> ResponseReturnValueType:
    """List who wants no reminders of this account any more, by a link in a mail."""
    call = current_call()
    return {"items": answers.list_unsubscribed(call.session, call.caller.account_id)}


@blueprint.post("/v1/reminders/subscribe")
@authorized(Scope.WRITE)
@blueprint.takes(RecipientIn)
@blueprint.output({}, HTTPStatus.NO_CONTENT.value, description="Reminders go there again.")
def subscribe(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Send reminders again to a recipient who has unsubscribed."""
    call = current_call()
    answers.subscribe_again(call.session, call.caller, json_data["recipient"], now=call.now)
    return "", HTTPStatus.NO_CONTENT
