"""/v1/certificates/validate: the one place of the API that looks into PEM and loads a key, because it was asked to."""

from __future__ import annotations

from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.requests import new_certificate
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.certificates import ReportOut, UploadIn
from shared.usecases.validation_preview import preview_certificate

blueprint = Resource("validation", __name__, tag="Certificates")


@blueprint.post("/v1/certificates/validate")
@authorized(Scope.WRITE)
@blueprint.takes(UploadIn)
@blueprint.answers(ReportOut)
def validate(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Say what is wrong with an upload, without storing anything.

    Answers 200 for every well-formed request, however bad its PEM.
    """
    call = current_call()
    request = new_certificate(json_data)
    report = preview_certificate(call.context, call.session, call.caller, request, now=call.now)
    answer = {"valid": report.valid, "findings": report.findings, "summary": report.summary}
    return answer if report.regions is None else {**answer, "regions": report.regions}
