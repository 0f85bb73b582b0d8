"""The instant doctor: what validation says of a form as it stands. Nothing is stored, no key is shown or logged."""

from __future__ import annotations

from flask import Response, request

from services.api.console.blueprint import Pages, signed_in
from services.api.console.rendering import render
from services.api.console.uploads import certificate_body, checked
from services.api.console.visits import current_visit
from services.api.requests import new_certificate
from shared.errors import FieldError, Rejected
from shared.schemas.certificates import UploadIn
from shared.usecases.validation_preview import Report, preview_certificate

blueprint = Pages("doctor", __name__)


@blueprint.post("/certificates/check")
@signed_in
def check() -> Response:
    """The findings: a part of a page for the script (``?part=1``), a page of their own without it."""
    visit = current_visit()
    body = {name: value for name, value in certificate_body().items() if value}  # regions may be chosen later
    report: Report | None = None
    errors: tuple[FieldError, ...] = ()
    try:
        upload = new_certificate(checked(UploadIn(), body))
        report = preview_certificate(visit.context, visit.session, visit.caller, upload, now=visit.now)
    except Rejected as error:
        errors = error.errors
    template = "doctor_part.html" if request.args.get("part") else "doctor.html"
    return Response(render(template, report=report, errors=errors), mimetype="text/html")
