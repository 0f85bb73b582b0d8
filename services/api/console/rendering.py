"""Templates: Jinja with autoescaping, the words of the request's language, and what every page needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flask import current_app, g, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.api.console import formats, language, theme, visits
from services.api.console.assets import Assets
from services.api.console.forms import FIELD, form_token
from shared.usecases import sign_in


def build_environment(assets: Assets, *, navigation: Sequence[object]) -> Environment:
    """Built once a process. A name that a template misspells is an error, never an empty place."""
    environment = Environment(
        loader=PackageLoader("services.api.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    i18n: Any = environment
    i18n.install_gettext_callables(language._, language.ngettext, newstyle=True)
    environment.globals.update(
        asset=assets.address,
        navigation=navigation,
        languages=language.LANGUAGES,
        csrf_field=FIELD,
        query=formats.query,
        has_mistake=formats.has_mistake,
    )
    environment.filters.update(formats.FILTERS)
    return environment


def render(template: str, **values: Any) -> str:
    """A page of the console: ``templates/TEMPLATE`` with ``values`` and what the layout shows."""
    visit = visits.visit_or_none()
    cookie = visits.session_cookie() if visit else visits.before_cookie()
    environment = cast("Environment", current_app.extensions["console_environment"])
    return environment.get_template(template).render(
        person=visit.signed_in if visit else None,
        now=visit.now if visit else None,
        notice=_notice(visit),
        csrf_token=form_token(g.get("before_token") or cookie),
        language=language.language(),
        html_language=language.HTML_LANGUAGES[language.language()],
        theme=theme.theme(),
        path=request.path,
        here=request.full_path.rstrip("?") if request.method == "GET" else "/",
        request_id=g.get("request_id", ""),
        **values,
    )


def _notice(visit: visits.Visit | None) -> str | None:
    """Said once: it goes with the transaction that shows it."""
    if visit is None or visit.signed_in.notice is None or request.method != "GET" or "failed" in g:
        return None
    sign_in.note(visit.session, visit.signed_in, None)
    return visit.signed_in.notice
