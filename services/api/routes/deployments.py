"""/v1/certificates/{id}/deployments: more regions, retry one, leave one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.accepted import DESCRIPTION, accepted
from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.certificates import RegionsIn
from shared.schemas.jobs import JobAcceptedOut
from shared.usecases.rollout import add_regions, remove_region, retry_region

blueprint = Resource("deployments", __name__, tag="Deployments")


@blueprint.post("/v1/certificates/<certificate_id>/deployments")
@authorized(Scope.WRITE)
@blueprint.takes(RegionsIn)
@blueprint.answers(JobAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def add(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Deploy a valid certificate to more regions."""
    call = current_call()
    regions = tuple(json_data["regions"])
    return accepted(call, add_regions(call.context, call.session, call.caller, certificate_id, regions, now=call.now))


@blueprint.post("/v1/certificates/<certificate_id>/deployments/<region>/retry")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(JobAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def retry(certificate_id: str, region: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Try one failed region again; the others stay as they are."""
    call = current_call()
    return accepted(call, retry_region(call.session, call.caller, certificate_id, region, now=call.now))


@blueprint.delete("/v1/certificates/<certificate_id>/deployments/<region>")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(JobAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def remove(certificate_id: str, region: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Remove the certificate from one region."""
    call = current_call()
    return accepted(call, remove_region(call.session, call.caller, certificate_id, region, now=call.now))
