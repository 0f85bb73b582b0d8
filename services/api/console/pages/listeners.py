"""Listeners: what clients are shown where, whether that is proven; one of them, and its end."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.listeners import FINAL_LISTENERS, ListenerState
from shared.domain.rollout import ServedState
from shared.usecases import browsing, listeners
from shared.usecases.listeners import Document, ListenerFilters

blueprint = Pages("listeners", __name__, entry=NavigationEntry(title=N_("Listeners"), address="/listeners", place=20))

MAX_QUERY: Final = 200
STATES: Final = tuple(state for state in ListenerState if state is not ListenerState.DELETED)


@blueprint.get("/listeners")
@signed_in
def index() -> str:
    """Search, filter and page through them. Two statements, however many there are."""
    visit, chosen = current_visit(), _chosen()
    found = listeners.list_listeners(visit.session, visit.caller, ListenerFilters(**chosen), visit.page(dict(chosen)))
    return render(
        "listeners.html",
        listeners=found.items,
        names=_names(found.items),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        is_filtered=any(chosen.values()),
        regions=visit.context.settings.regions.values(),
        states=STATES,
        served_states=list(ServedState),
    )


@blueprint.get("/listeners/<listener_id>")
@signed_in
def show(listener_id: str) -> str:
    """What it is, what is wanted of it, and what its clients really get."""
    listener = _listener(listener_id)
    change = listener["change"]
    return render(
        "listeners_one.html",
        listener=listener,
        names=_names([listener, *([change] if change else [])]),
        is_idle=listener["state"] in FINAL_LISTENERS,
    )


@blueprint.post("/listeners/<listener_id>/prove")
@signed_in
def prove(listener_id: str) -> AnyResponse:
    """Bind it as it is, and prove it by a handshake, again."""
    visit = current_visit()
    job, _same = listeners.change_listener(visit.context, visit.session, visit.caller, listener_id, {}, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


@blueprint.get("/listeners/<listener_id>/delete")
@signed_in
def ask_deletion(listener_id: str) -> str:
    """What would end, and what would stay."""
    listener = _listener(listener_id)
    return render("listeners_delete.html", listener=listener, names=_names([listener]))


@blueprint.post("/listeners/<listener_id>/delete")
@signed_in
def delete(listener_id: str) -> AnyResponse:
    """Stop answering for its host names."""
    visit = current_visit()
    job, _gone = listeners.delete_listener(visit.session, visit.caller, listener_id, now=visit.now)
    return redirect(f"/jobs/{job.id}", HTTPStatus.SEE_OTHER)


def _listener(listener_id: str) -> Document:
    visit = current_visit()
    return listeners.listener_document(listeners.find_listener(visit.session, visit.caller, listener_id))


def _names(documents: list[Document]) -> dict[str, str]:
    """What their certificates are called, by id."""
    visit = current_visit()
    fields = ("server_certificate_id", "ca_certificate_id")
    ids = [one[field] for one in documents for field in fields if one[field]]
    return browsing.names_of_certificates(visit.session, visit.caller, ids)


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    given = request.args
    return {
        "q": given.get("q", "").strip()[:MAX_QUERY] or None,
        "region": given.get("region") or None,
        "state": given.get("state") if given.get("state") in set(STATES) else None,
        "served": given.get("served") if given.get("served") in set(ServedState) else None,
        "certificate_id": given.get("certificate_id") or None,
    }
