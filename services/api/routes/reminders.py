"""/v1/reminders, and what can be answered to the reminders of one certificate."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.certificates import CertificateOut
from shared.schemas.reminders import RecipientIn, SnoozeIn, UnsubscribedList
from shared.usecases import answers
from shared.usecases.browsing import certificate_document

blueprint = Resource("reminders", __name__, tag="Reminders")


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
