"""Which language a page is in, and its words: one gettext catalogue a page, all of a language read as one."""

from __future__ import annotations

import gettext as gnu
import io
from collections.abc import Mapping
from importlib import resources
from typing import Final, cast

from flask import current_app, g, request

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "zh_Hans": "简体中文"}
"""Code of the catalogue, and what its speakers call it."""

HTML_LANGUAGES: Final[Mapping[str, str]] = {"en": "en", "zh_Hans": "zh-Hans"}
COOKIE: Final = "certfleet_language"

_ACCEPTED: Final = {"en": "en", "zh": "zh_Hans", "zh-cn": "zh_Hans", "zh-hans": "zh_Hans", "zh-sg": "zh_Hans"}
"""Tags of Accept-Language (RFC 9110 §12.5.4), in lower case."""

Catalogues = Mapping[str, gnu.NullTranslations]


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for: extract it, translate it where it is shown
    """Mark a text that is translated later."""
    return text


def _(text: str) -> str:
    """The text in the request's language."""
    return _current().gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """The form that fits the number, in the request's language."""
    return _current().ngettext(one, many, count)


def language() -> str:
    """The request's language: what was chosen, else the browser's first that we have, else English."""
    if "language" not in g:
        g.language = _chosen()
    return cast("str", g.language)


def load_catalogues() -> Catalogues:
    """By language. English is what the source says."""
    return {code: _catalogue(code) for code in LANGUAGES}


def _catalogue(code: str) -> gnu.NullTranslations:
    found = gnu.NullTranslations()
    folder = resources.files("services.api.console").joinpath("translations", code)
    if code == "en" or not folder.is_dir():
        return found
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if not file.name.endswith(".mo"):
            continue
        one = gnu.GNUTranslations(io.BytesIO(file.read_bytes()))
        one.add_fallback(found)
        found = one
    return found


def _current() -> gnu.NullTranslations:
    catalogues = cast("Catalogues", current_app.extensions["console_catalogues"])
    return catalogues[language()]


def _chosen() -> str:
    cookie = request.cookies.get(COOKIE, "")
    if cookie in LANGUAGES:
        return cookie
    for tag, _quality in request.accept_languages:
        code = _ACCEPTED.get(tag.lower()) or _ACCEPTED.get(tag.lower().partition("-")[0])
        if code is not None:
            return code
    return "en"
