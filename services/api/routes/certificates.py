"""/v1/certificates: submit, list, look at, edit, remove, download."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask import FileSchema
from apiflask.types import ResponseReturnValueType

from services.api.accepted import DESCRIPTION, accepted, accepted_document
from services.api.calls import authorized, current_call
from services.api.downloading import download_answer
from services.api.requests import new_certificate
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.base import Nothing
from shared.schemas.certificates import (
    AcceptedOut,
    CertificateIn,
    CertificateOut,
    CertificatePage,
    CertificatePatchIn,
    CertificateQuery,
    RenewalIn,
    ReplacementIn,
)
from shared.schemas.jobs import JobAcceptedOut
from shared.usecases import browsing
from shared.usecases.browsing import CertificateFilters
from shared.usecases.downloads import download_certificate
from shared.usecases.editing import edit_certificate
from shared.usecases.renewal import RenewalRequest, renew_certificate
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.rollout import remove_certificate
from shared.usecases.submission import submit_certificate

blueprint = Resource("certificates", __name__, tag="Certificates")


@blueprint.post("/v1/certificates")
@authorized(Scope.WRITE)
@blueprint.takes(CertificateIn)
@blueprint.answers(AcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def create(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Submit a certificate.

    It is validated and put into every region in the background: look at the job, read events, or give a callback_url.
    """
    call = current_call()
    request = new_certificate(json_data)
    submitted = submit_certificate(call.context, call.session, call.caller, request, now=call.now)
    job, certificate = browsing.submitted_documents(submitted)
    return accepted_document(job, certificate=certificate)


@blueprint.get("/v1/certificates")
@authorized(Scope.READ)
@blueprint.takes(CertificateQuery, location="query")
@blueprint.answers(CertificatePage)
def index(query_data: dict[str, Any]) -> ResponseReturnValueType:
    """List certificates."""
    call = current_call()
    page = call.page(query_data)
    filters = CertificateFilters(**query_data)
    found = browsing.list_certificates(call.session, call.caller, filters, page)
    return {"items": found.items, "next_cursor": found.next_cursor}


@blueprint.get("/v1/certificates/<certificate_id>")
@authorized(Scope.READ)
@blueprint.answers(CertificateOut)
def show(certificate_id: str) -> ResponseReturnValueType:
    """Look at a certificate and where it is."""
    call = current_call()
    return browsing.get_certificate(call.session, call.caller, certificate_id)


@blueprint.patch("/v1/certificates/<certificate_id>")
@authorized(Scope.WRITE)
@blueprint.takes(CertificatePatchIn)
@blueprint.answers(CertificateOut)
def edit(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Change name, contacts, tags, or mute reminders. The content never changes."""
    call = current_call()
    certificate = edit_certificate(call.session, call.caller, certificate_id, json_data, now=call.now)
    return browsing.certificate_document(call.session, certificate)


@blueprint.delete("/v1/certificates/<certificate_id>")
@authorized(Scope.WRITE)
@blueprint.takes(Nothing)
@blueprint.answers(JobAcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def remove(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:  # noqa: ARG001 - checked to be empty
    """Remove a certificate from every region and destroy its key."""
    call = current_call()
    job = remove_certificate(call.session, call.caller, certificate_id, now=call.now)
    return accepted(call, job)


@blueprint.post("/v1/certificates/<certificate_id>/replace")
@authorized(Scope.WRITE)
@blueprint.takes(ReplacementIn)
@blueprint.answers(AcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def replace(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Put new content in the certificate's place.

    The answer's certificate is the new one. In every region it is staged, its listeners move to it, each is proven by a
    handshake, and only then the old one goes; a region that fails stays on the old one.
    """
    call = current_call()
    content = NewContent(**json_data)
    job, certificate = replace_certificate(
        call.context, call.session, call.caller, certificate_id, content, now=call.now
    )
    return accepted(call, job, certificate=browsing.certificate_document(call.session, certificate))


@blueprint.post("/v1/certificates/<certificate_id>/renew")
@authorized(Scope.WRITE)
@blueprint.takes(RenewalIn)
@blueprint.answers(AcceptedOut, HTTPStatus.ACCEPTED, description=DESCRIPTION)
def renew(certificate_id: str, json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Have the certificate service issue the certificate anew, and put the new one in its place.

    The answer's certificate is the new one. Once it is issued it takes the old one's place as with replace; until a
    region is proven to serve it, the old one stays there. An uploaded certificate is refused: replace it.
    """
    call = current_call()
    request = RenewalRequest(**json_data)
    job, certificate = renew_certificate(call.context, call.session, call.caller, certificate_id, request, now=call.now)
    return accepted(call, job, certificate=browsing.certificate_document(call.session, certificate))


@blueprint.get("/v1/certificates/<certificate_id>/download")
@authorized(Scope.DOWNLOAD)
@blueprint.output(FileSchema(type="string", format="binary"), content_type="application/zip")
def download(certificate_id: str) -> ResponseReturnValueType:
    """Download certificate and key as Nginx takes them.

    A zip of <name>.pem (leaf first) and, for a server certificate, <name>.key. Needs the scope download; audited.
    """
    call = current_call()
    found = download_certificate(call.context, call.session, call.caller, certificate_id, now=call.now)
    return download_answer(found)
