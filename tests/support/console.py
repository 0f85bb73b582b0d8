"""A browser of Flask's: cookies, forms with their tokens, one person of the fleet's account or of another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.usecases.accounts import create_account
from shared.usecases.people import add_person, create_link, set_password
from tests.support.api import Api

EMAIL = "ann@example.com"
PASSWORD = "correct horse battery staple"  # noqa: S105 - of nobody
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(slots=True, kw_only=True)
class Browser:
    """Requests as a browser makes them."""

    http: FlaskClient

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.http.get(path, **options)

    def page(self, path: str) -> str:
        """The text of a page that must be there."""
        response = self.get(path)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response.text

    def token(self, path: str) -> str:
        """The token of the forms of a page."""
        return token_of(self.page(path))

    def submit(self, shown_on: str, path: str, fields: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Fill in the form on one page and send it to ``path``."""
        data = {"csrf_token": self.token(shown_on), **(fields or {})}
        return self.http.post(path, data=data, **options)


def token_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return unescape(found[1])


def browser(api: Api) -> Browser:
    """One that has been nowhere."""
    return Browser(http=api.app.test_client())


def person(api: Api, *, email: str = EMAIL, password: str | None = PASSWORD, account_id: str | None = None) -> str:
    """Add somebody; the clear token of a sign-in link."""
    with api.fleet.transaction() as session:
        one = add_person(session, account_id=account_id or api.fleet.caller.account_id, email=email, now=api.fleet.now)
        if password is not None:
            set_password(one, password)
        return create_link(session, one, now=api.fleet.now)


def signed_in(api: Api, *, email: str = EMAIL, account_id: str | None = None) -> Browser:
    """A browser of a new person of the account."""
    token = person(api, email=email, password=None, account_id=account_id)
    one = browser(api)
    response = one.submit(f"/sign-in/{token}", f"/sign-in/{token}")
    assert response.status_code == 303, response.text
    return one


def stranger(api: Api) -> Browser:
    """Somebody who is signed in to another account."""
    return signed_in(api, email="eve@example.com", account_id=newcomer(api))


def newcomer(api: Api) -> str:
    """The id of another account, new and empty."""
    with api.fleet.transaction() as session:
        return create_account(session, api.fleet.context.vault, name="stranger", now=api.fleet.now).id
