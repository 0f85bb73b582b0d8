"""How a browser is shown the console: language, and light or dark. Kept in cookies, for visitors too."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.api.console import language, theme, visits
from services.api.console.blueprint import Pages

blueprint = Pages("preferences", __name__)

_YEAR_SECONDS: Final = 31_536_000


@blueprint.post("/language")
def choose_language() -> AnyResponse:
    """Remember the language. It changes nothing else, so no token is asked for."""
    return _kept(language.COOKIE, request.form.get("language", ""), known=language.LANGUAGES)


@blueprint.post("/theme")
def choose_theme() -> AnyResponse:
    """Remember light or dark, or, empty, to follow the device."""
    return _kept(theme.COOKIE, request.form.get("theme", ""), known={"", *theme.THEMES})


def _kept(cookie: str, chosen: str, *, known: Collection[str]) -> AnyResponse:
    response = redirect(visits.next_page("/"), HTTPStatus.SEE_OTHER)
    if chosen in known:
        response.set_cookie(
            cookie, chosen, max_age=_YEAR_SECONDS, secure=visits.is_https(), httponly=True, samesite="Lax"
        )
    return response
