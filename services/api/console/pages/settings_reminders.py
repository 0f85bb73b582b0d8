"""When the people of the account are reminded: thresholds, time zone and quiet window; and renewal by itself."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from flask import make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console.blueprint import Pages, signed_in
from services.api.console.language import N_, _
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.config.settings import REMINDER_THRESHOLDS
from shared.errors import Rejected
from shared.usecases import account_settings

blueprint = Pages("settings_reminders", __name__)

_SEPARATORS: Final = re.compile(r"[\s,;]+")
_DIGITS: Final = 6

SAID: Final = (
    N_("Some settings need another look."),
    N_("It is no name of the IANA time zone database."),
    N_("Write it as there, such as Europe/Berlin, Asia/Shanghai or UTC."),
    N_("It is not a time of day."),
    N_("Write hours and minutes, such as 22:00."),
    N_("It begins and ends in the same minute."),
    N_("Give two times; null for quiet_window if no hour is quiet."),
)
"""What schemas answer."""


@blueprint.get("/settings/reminders")
@signed_in
def show() -> AnyResponse:
    """The form as it is now."""
    visit = current_visit()
    return _page(account_settings.read_settings(visit.session, visit.caller.account_id))


@blueprint.post("/settings/reminders")
@signed_in
def change() -> AnyResponse:
    """Change them as ``PATCH /v1/account`` does."""
    visit, body = current_visit(), _body()
    try:
        changes = account_settings.checked_changes(body)
        with visit.session.begin_nested():
            account_settings.change_settings(visit.context, visit.session, visit.caller, changes, now=visit.now)
    except Rejected as error:
        return _page(body, error=error)
    visit.say(_("Saved."))
    return redirect("/settings/reminders", HTTPStatus.SEE_OTHER)


def _body() -> dict[str, Any]:
    """The form as the API's body. No quiet hour: both fields are left empty."""
    form = request.form
    window = {"from": form.get("quiet_from", ""), "until": form.get("quiet_until", "")}
    numbers = [_number(part) for part in _SEPARATORS.split(form.get("thresholds", "")) if part]
    days = form.get("renew_before_days", "").strip()
    return {
        "reminder_thresholds": numbers if form.get("which") == "own" else None,
        "time_zone": form.get("time_zone", "").strip(),
        "quiet_window": window if any(window.values()) else None,
        "auto_renew": form.get("auto_renew") == "yes",
        "renew_before_days": _number(days) if days else None,
    }


def _number(text: str) -> int | str:
    """What is no number stays as it is, to be refused."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else text


def _page(typed: dict[str, Any], *, error: Rejected | None = None) -> AnyResponse:
    window = typed["quiet_window"] or {}
    page = render(
        "settings_reminders.html",
        typed=typed,
        quiet_from=_written(window.get("begins", window.get("from", ""))),
        quiet_until=_written(window.get("ends", window.get("until", ""))),
        usual=REMINDER_THRESHOLDS,
        error=error,
    )
    return make_response(page, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:%H:%M}"
