"""One certificate: chain, life, regions and what they really serve, listeners, history, and what can be done."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Final

from flask import Response, make_response, redirect
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.formats import SOON
from services.api.console.rendering import render
from services.api.console.timeline import timeline
from services.api.console.uploads import checked, pasted
from services.api.console.visits import current_visit
from services.api.downloading import download_answer
from shared.errors import NotFound, Rejected
from shared.schemas.certificates import ReplacementIn
from shared.usecases import browsing
from shared.usecases.browsing import Document, JobFilters
from shared.usecases.certificate_history import newest_attempts, newest_events
from shared.usecases.downloads import download_certificate
from shared.usecases.listeners import ListenerFilters, list_listeners
from shared.usecases.paging import Page
from shared.usecases.renewal import renew_certificate
from shared.usecases.replacement import NewContent, replace_certificate
from shared.usecases.rollout import remove_certificate, remove_region

blueprint = Pages("certificate", __name__)

NEAR: Final = 20
"""Listeners and jobs that the page shows; their own pages show the others."""

RECENT: Final = 50
"""Events and attempts that the page shows; the API has the others."""


@blueprint.get("/certificates/<certificate_id>")
@signed_in
def show(certificate_id: str) -> str:
    """Everything about it. Two statements for itself, one each for listeners, jobs, events and attempts."""
    visit = current_visit()
    certificate, listeners = _with_listeners(certificate_id)
    page = visit.first_page(limit=NEAR)
    jobs = browsing.list_jobs(visit.session, visit.caller, JobFilters(certificate_id=certificate_id), page)
    ends = certificate["not_after"]
    return render(
        "certificate.html",
        certificate=certificate,
        chain=[_with_times(one) for one in certificate["chain"]],
        is_ending=ends is not None and ends - visit.now <= SOON,
        listeners=listeners.items,
        has_more_listeners=listeners.next_cursor is not None,
        jobs=jobs.items,
        has_more_jobs=jobs.next_cursor is not None,
        events=newest_events(visit.session, visit.caller, certificate_id, limit=RECENT),
        attempts=newest_attempts(visit.session, visit.caller, certificate_id, limit=RECENT),
        line=timeline(certificate, visit.now),
    )


@blueprint.get("/certificates/<certificate_id>/replace")
@signed_in
def ask_replacement(certificate_id: str) -> AnyResponse:
    """The form for new content."""
    return _replacement(certificate_id)


@blueprint.post("/certificates/<certificate_id>/replace")
@signed_in
def replace(certificate_id: str) -> AnyResponse:
    """Put new content in its place, everywhere, proven."""
    visit = current_visit()
    body = {name: text for name in ("certificate", "private_key") if (text := pasted(name))}
    try:
        content = NewContent(**checked(ReplacementIn(), body))
        with visit.session.begin_nested():
            job, _new = replace_certificate(
                visit.context, visit.session, visit.caller, certificate_id, content, now=visit.now
            )
    except Rejected as error:
        return _replacement(certificate_id, error=error)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/certificates/<certificate_id>/renew")
@signed_in
def renew(certificate_id: str) -> AnyResponse:
    """Have its service issue it anew."""
    visit = current_visit()
    job, _new = renew_certificate(visit.context, visit.session, visit.caller, certificate_id, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


@blueprint.post("/certificates/<certificate_id>/download")
@signed_in
def download(certificate_id: str) -> Response:
    """Certificate and key as Nginx takes them; audited."""
    visit = current_visit()
    return download_answer(
        download_certificate(visit.context, visit.session, visit.caller, certificate_id, now=visit.now)
    )


@blueprint.get("/certificates/<certificate_id>/delete")
@signed_in
def ask_deletion(certificate_id: str) -> str:
    """What would be gone, and who uses it."""
    certificate, listeners = _with_listeners(certificate_id)
    return render("certificate_delete.html", certificate=certificate, listeners=listeners.items)


@blueprint.post("/certificates/<certificate_id>/delete")
@signed_in
def delete(certificate_id: str) -> AnyResponse:
    """Remove it from every region and destroy its key."""
    visit = current_visit()
    job = remove_certificate(visit.session, visit.caller, certificate_id, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


@blueprint.get("/certificates/<certificate_id>/regions/<region>/remove")
@signed_in
def ask_removal(certificate_id: str, region: str) -> str:
    """What removing it from one region would do, and who uses it there."""
    certificate, listeners = _with_listeners(certificate_id, region=region)
    if all(one["region"] != region for one in certificate["deployments"]):
        raise NotFound("The certificate is not in that region.", hint="Look at the certificate.")
    return render("certificate_remove.html", certificate=certificate, region=region, listeners=listeners.items)


@blueprint.post("/certificates/<certificate_id>/regions/<region>/remove")
@signed_in
def remove(certificate_id: str, region: str) -> AnyResponse:
    """Remove it from one region."""
    visit = current_visit()
    job = remove_region(visit.session, visit.caller, certificate_id, region, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


def _with_listeners(certificate_id: str, *, region: str | None = None) -> tuple[Document, Page[Document]]:
    visit = current_visit()
    certificate = browsing.get_certificate(visit.session, visit.caller, certificate_id)
    filters = ListenerFilters(certificate_id=certificate_id, region=region)
    return certificate, list_listeners(visit.session, visit.caller, filters, visit.first_page(limit=NEAR))


def _with_times(link: Document) -> Document:
    """A certificate of the chain; its times are kept as text (RFC 3339)."""
    return {**link, **{name: datetime.fromisoformat(str(link[name])) for name in ("not_before", "not_after")}}


def _replacement(certificate_id: str, *, error: Rejected | None = None) -> AnyResponse:
    visit = current_visit()
    certificate = browsing.get_certificate(visit.session, visit.caller, certificate_id)
    page = render("certificate_replace.html", certificate=certificate, error=error)
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
