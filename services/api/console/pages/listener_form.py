"""The form of a listener: first where and which certificates to choose from, then what it shall be."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import Visit, current_visit
from services.api.errors import status_of
from shared.config.regions import Region
from shared.domain.certificates import CertificateType
from shared.domain.listeners import Authentication
from shared.domain.rollout import DeploymentState
from shared.errors import Conflict, Rejected
from shared.schemas.listeners import ListenerIn, ListenerPatchIn
from shared.usecases import browsing, listeners
from shared.usecases.browsing import CertificateFilters, Document
from shared.usecases.driver_registry import capabilities_of
from shared.usecases.listeners import NewListener

blueprint = Pages("listener_form", __name__)

CHOICES: Final = 30
"""Certificates of each type that the form offers; a search finds the others."""

MAX_QUERY: Final = 200
_SEPARATORS: Final = re.compile(r"[\s,;]+")

Refusal = Rejected | Conflict


@blueprint.get("/listeners/add")
@signed_in
def ask() -> AnyResponse:
    """The form: the region comes first, since it decides which certificates there are."""
    given = request.args
    chosen = given.get("certificate_id")
    typed = {"region": given.get("region"), "authentication": Authentication.ONE_WAY, "server_certificate_id": chosen}
    return _form(typed)


@blueprint.post("/listeners/add")
@signed_in
def create() -> AnyResponse:
    """Create it as ``POST /v1/listeners`` does, and show the job."""
    visit = current_visit()
    body = _body() | {"region": request.form.get("region", "")}
    try:
        wanted = checked(ListenerIn(), {name: value for name, value in body.items() if value})
        new = NewListener(**{**wanted, "hosts": tuple(wanted["hosts"])})
        with visit.session.begin_nested():
            job, _new = listeners.create_listener(visit.context, visit.session, visit.caller, new, now=visit.now)
    except (Rejected, Conflict) as error:
        return _form(body, error=error)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


@blueprint.get("/listeners/<listener_id>/change")
@signed_in
def ask_change(listener_id: str) -> AnyResponse:
    """The form, filled in with what it is now."""
    listener = _listener(listener_id)
    return _form({**listener, **(listener["change"] or {})}, listener=listener)


@blueprint.post("/listeners/<listener_id>/change")
@signed_in
def change(listener_id: str) -> AnyResponse:
    """Change it as ``PATCH /v1/listeners/{id}`` does, and show the job."""
    visit = current_visit()
    listener, body = _listener(listener_id), _body()
    try:
        changes = checked(ListenerPatchIn(), body)
        with visit.session.begin_nested():
            job, _same = listeners.change_listener(
                visit.context, visit.session, visit.caller, listener_id, changes, now=visit.now
            )
    except (Rejected, Conflict) as error:
        return _form(body | {"region": listener["region"]}, listener=listener, error=error)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


def _body() -> dict[str, Any]:
    """The form as a body of the API; a CA counts with mutual authentication only."""
    form = request.form
    is_mutual = form.get("authentication") == Authentication.MUTUAL
    return {
        "name": form.get("name", "").strip(),
        "hosts": [part for part in _SEPARATORS.split(form.get("hosts", "")) if part],
        "authentication": form.get("authentication", ""),
        "server_certificate_id": form.get("server_certificate_id", ""),
        "ca_certificate_id": (form.get("ca_certificate_id") or None) if is_mutual else None,
    }


def _listener(listener_id: str) -> Document:
    visit = current_visit()
    return listeners.listener_document(listeners.find_listener(visit.session, visit.caller, listener_id))


def _form(typed: dict[str, Any], *, listener: Document | None = None, error: Refusal | None = None) -> AnyResponse:
    visit = current_visit()
    q = request.args.get("q", "").strip()[:MAX_QUERY] or None
    region = visit.context.settings.regions.get(typed["region"] or "")
    kinds = {
        "server_certificate_id": CertificateType.SERVER,
        "ca_certificate_id": CertificateType.CA,
    }
    page = render(
        "listener_form.html",
        listener=listener,
        typed={"name": "", "hosts": [], "ca_certificate_id": None, **typed},
        error=error,
        q=q,
        region=region,
        regions=[one for one in visit.context.settings.regions.values() if _has_listeners(one)],
        choices={field: _choices(visit, region, kind, q, typed.get(field)) for field, kind in kinds.items()},
    )
    return make_response(page, status_of(error) if error else HTTPStatus.OK)


def _has_listeners(region: Region) -> bool:
    capabilities = capabilities_of(region)
    return capabilities is None or capabilities.listeners


def _choices(
    visit: Visit, region: Region | None, kind: CertificateType, q: str | None, chosen: str | None
) -> list[Document]:
    """Certificates that the region has, those that end last first, and the one that is chosen already."""
    if region is None:
        return []
    filters = CertificateFilters(type=kind, region=region.id, state=DeploymentState.DEPLOYED, q=q, sort="-expires")
    found = browsing.list_certificates(visit.session, visit.caller, filters, visit.first_page(limit=CHOICES)).items
    offered = [one for one in found if not one["replaced_by"]]
    if chosen and all(one["id"] != chosen for one in offered):
        known = browsing.certificate_or_none(visit.session, visit.caller, chosen)
        return [known, *offered] if known else offered
    return offered
