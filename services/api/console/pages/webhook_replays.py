"""Many events of one endpoint again, from a cursor or a time on: the form, how far each replay is, cancel."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import _
from services.api.console.pages.webhook import find
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from services.api.console.webhooks_words import host_of
from shared.domain.webhooks import ReplayState
from shared.errors import CertfleetError, Conflict, Expired, Rejected
from shared.models import WebhookReplay
from shared.schemas.webhook_replays import ReplayIn
from shared.usecases import webhook_replay
from shared.usecases.history import newest_sequence
from shared.usecases.webhook_replay import NewReplay

blueprint = Pages("webhook_replays", __name__)

REPLAYS: Final = 20
MAX_DIGITS: Final = 18


@blueprint.get("/webhooks/<webhook_id>/replays")
@signed_in
def index(webhook_id: str) -> AnyResponse:
    """The form, and the endpoint's replays, newest first. While one runs the page looks again by itself."""
    return _page(webhook_id, request.args.to_dict())


@blueprint.post("/webhooks/<webhook_id>/replays")
@signed_in
def start(webhook_id: str) -> AnyResponse:
    """Begin one as ``POST /v1/webhooks/{id}/replay`` does."""
    visit = current_visit()
    find(webhook_id)
    try:
        wanted = checked(ReplayIn(), _body())
        request_ = NewReplay(**{**wanted, "types": tuple(wanted["types"])})
        with visit.session.begin_nested():
            webhook_replay.start_replay(visit.session, visit.caller, webhook_id, request=request_, now=visit.now)
    except (Rejected, Conflict, Expired) as error:
        return _page(webhook_id, dict(request.form), error=error)
    visit.say(_("The replay has begun."))
    return redirect(f"/webhooks/{webhook_id}/replays", HTTPStatus.SEE_OTHER)


@blueprint.post("/webhooks/<webhook_id>/replays/<replay_id>/cancel")
@signed_in
def cancel(webhook_id: str, replay_id: str) -> AnyResponse:
    """Queue nothing more; what is queued already is sent."""
    visit = current_visit()
    webhook_replay.cancel_replay(visit.session, visit.caller, webhook_id, replay_id=replay_id, now=visit.now)
    visit.say(_("Nothing more is queued; what was queued already is sent."))
    return redirect(f"/webhooks/{webhook_id}/replays", HTTPStatus.SEE_OTHER)


def _body() -> dict[str, Any]:
    """The form as the API's body: only the beginning that was chosen counts; times are UTC, as the page says."""
    form = request.form
    body: dict[str, Any] = {"only_failed": form.get("only_failed") == "yes"}
    if form.get("begin") == "after":
        text = form.get("after", "").strip()
        body["after"] = int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else text
    else:
        body["since"] = _utc(form.get("since", ""))
    if form.get("until", "").strip():
        body["until"] = _utc(form.get("until", ""))
    if form.get("types", "").split():
        body["types"] = form.get("types", "").split()
    return body


def _utc(text: str) -> str:
    """What ``datetime-local`` gives has no offset."""
    text = text.strip()
    return f"{text}Z" if "T" in text and not text.endswith("Z") else text


def _page(webhook_id: str, typed: dict[str, Any], *, error: CertfleetError | None = None) -> AnyResponse:
    visit, endpoint = current_visit(), find(webhook_id)
    found = webhook_replay.list_replays(
        visit.session, visit.caller.account_id, webhook_id, page=visit.page({}, limit=REPLAYS)
    )
    page = render(
        "webhook_replays.html",
        endpoint=endpoint,
        host=host_of(endpoint.url),
        replays=[(one, _share(one)) for one in found.items],
        is_running=any(one.state == ReplayState.RUNNING for one in found.items),
        newest=newest_sequence(visit.session, visit.caller),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        typed={"begin": "since", "after": "", "since": "", "until": "", "types": "", "only_failed": "", **typed},
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _share(replay: WebhookReplay) -> int:
    """How much of it has been looked at, in per cent."""
    length = replay.until_sequence - replay.after_sequence
    return 100 if length <= 0 else 100 * (replay.position - replay.after_sequence) // length
