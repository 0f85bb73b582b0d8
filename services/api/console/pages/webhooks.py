"""Webhook endpoints: the list, and the form that makes or changes one; its secret is shown once."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.uploads import checked
from services.api.console.visits import current_visit
from services.api.console.webhooks_words import host_of, subscribable
from shared.domain.webhooks import SignatureScheme
from shared.errors import Rejected
from shared.models import WebhookEndpoint
from shared.schemas.webhooks import WebhookIn, WebhookPatchIn
from shared.usecases import webhook_lag, webhooks
from shared.usecases.webhook_secrets import Shown
from shared.usecases.webhooks import Changes, NewWebhook

blueprint = Pages("webhooks", __name__, entry=NavigationEntry(title=N_("Webhooks"), address="/webhooks", place=50))

_SEPARATORS: Final = re.compile(r"[\s,;]+")
_LINES: Final = re.compile(r"[\r\n]+")
ANY: Final = "*"


@blueprint.get("/webhooks")
@signed_in
def index() -> str:
    """List endpoints: where they go, what they hear, and how far behind they are. Two statements."""
    visit = current_visit()
    found = webhooks.list_webhooks(visit.session, visit.caller.account_id, visit.page({}))
    return render(
        "webhooks.html",
        endpoints=found.items,
        hosts={one.id: host_of(one.url) for one in found.items},
        lags=webhook_lag.lags(visit.session, [one.id for one in found.items]),
        most_counted=webhook_lag.MOST_COUNTED,
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
    )


@blueprint.get("/webhooks/add")
@signed_in
def ask_new() -> AnyResponse:
    """The form of a new one."""
    return _form({"types": [ANY], "signature_scheme": SignatureScheme.HMAC.value})


@blueprint.post("/webhooks/add")
@signed_in
def create() -> AnyResponse:
    """Make it as ``POST /v1/webhooks`` does, and show its secret, this once."""
    visit = current_visit()
    body = {**_filled_in(), "signature_scheme": request.form.get("signature_scheme", "")}
    try:
        loaded = checked(WebhookIn(), body)
        wanted = NewWebhook(**{**loaded, "signature_scheme": SignatureScheme(loaded["signature_scheme"])})
        with visit.session.begin_nested():
            endpoint, shown = webhooks.create_webhook(visit.context, visit.session, visit.caller, wanted, now=visit.now)
    except Rejected as error:
        return _form(body, error=error)
    return secret_page(endpoint, shown, title=_("The endpoint is made"))


@blueprint.get("/webhooks/<webhook_id>/edit")
@signed_in
def ask_changes(webhook_id: str) -> AnyResponse:
    """The form of one that is there."""
    endpoint = _endpoint(webhook_id)
    return _form({name: getattr(endpoint, name) for name in _FIELDS}, endpoint=endpoint)


@blueprint.post("/webhooks/<webhook_id>/edit")
@signed_in
def change(webhook_id: str) -> AnyResponse:
    """Change it as ``PATCH /v1/webhooks/{id}`` does."""
    visit, body = current_visit(), _filled_in()
    endpoint = _endpoint(webhook_id)
    try:
        changes = Changes(**checked(WebhookPatchIn(), body))
        with visit.session.begin_nested():
            webhooks.update_webhook(
                visit.context, visit.session, visit.caller, webhook_id, changes=changes, now=visit.now
            )
    except Rejected as error:
        return _form(body, endpoint=endpoint, error=error)
    visit.say(_("Changed. Events go there from now on."))
    return redirect(f"/webhooks/{webhook_id}", HTTPStatus.SEE_OTHER)


def secret_page(endpoint: WebhookEndpoint, shown: Shown, *, title: str) -> AnyResponse:
    """What verifies the signatures: in the answer to the form, and nowhere after."""
    return make_response(
        render("webhooks_secret.html", endpoint=endpoint, host=host_of(endpoint.url), shown=shown, title=title)
    )


_FIELDS: Final = ("url", "types", "regions", "tags", "description")


def _filled_in() -> dict[str, Any]:
    """The form as the API's body."""
    form = request.form
    return {
        "url": form.get("url", "").strip(),
        "types": _words(form.get("types", "")),
        "regions": form.getlist("regions"),
        "tags": _tags(form.get("tags", "")),
        "description": form.get("description", "").strip(),
    }


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _tags(text: str) -> dict[str, str]:
    """One a line, ``name=value``; a name alone means: whatever its value."""
    pairs = [line.partition("=") for line in _LINES.split(text) if line.strip()]
    return {name.strip(): value.strip() if sign else ANY for name, sign, value in pairs}


def _endpoint(webhook_id: str) -> WebhookEndpoint:
    visit = current_visit()
    return webhooks.get_webhook(visit.session, visit.caller.account_id, webhook_id)


def _form(
    typed: dict[str, Any], *, endpoint: WebhookEndpoint | None = None, error: Rejected | None = None
) -> AnyResponse:
    page = render(
        "webhooks_form.html",
        typed={"url": "", "regions": [], "tags": {}, "description": "", **typed},
        endpoint=endpoint,
        host=host_of(endpoint.url) if endpoint else "",
        error=error,
        types=subscribable(),
        regions=current_visit().context.settings.regions.values(),
        schemes=[scheme.value for scheme in SignatureScheme],
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)
