"""The API over a real database, without a server: Flask's client, tokens with chosen scopes, and a fleet behind it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from services.api.app import create_app
from services.api.streams import Streams
from shared.domain.scopes import ALL_SCOPES, Scope
from shared.usecases.accounts import create_account
from shared.usecases.context import Context
from shared.usecases.tokens import create_token
from tests.support import pki
from tests.support.fleet import REGIONS, Fleet

QUICK = Streams(
    poll=timedelta(milliseconds=20), heartbeat=timedelta(milliseconds=50), lifetime=timedelta(milliseconds=400)
)


@dataclass(slots=True, kw_only=True)
class Client:
    """Requests with one token."""

    http: FlaskClient
    token: str

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.http.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.send("POST", path, **({} if body is None else {"json": body}), **options)

    def patch(self, path: str, body: Any, **options: Any) -> TestResponse:
        return self.send("PATCH", path, json=body, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.send("DELETE", path, **options)

    def items(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """The first page of a list."""
        response = self.get(path, **options)
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = answer(response)["items"]
        return items


@dataclass(slots=True, kw_only=True)
class Api:
    """The application, and one account's client with every scope."""

    app: APIFlask
    fleet: Fleet
    client: Client
    logs: Sequence[MutableMapping[str, Any]] = ()
    """What was logged, where the fixture captures it."""

    def submit(self, client: Client | None = None, **overrides: Any) -> dict[str, Any]:
        """Submit a good server certificate; the answer {job, certificate}."""
        response = (client or self.client).post("/v1/certificates", submission(**overrides))
        assert response.status_code == 202, response.text
        return answer(response)

    def deployed(self, **overrides: Any) -> dict[str, Any]:
        """Submit, and let the workers finish; the certificate as it is then."""
        accepted = self.submit(**overrides)
        self.fleet.run()
        return answer(self.client.get(f"/v1/certificates/{accepted['certificate']['id']}"))

    def account(self, name: str, scopes: Iterable[Scope] = ALL_SCOPES) -> Client:
        """A client of another, new account."""
        with self.fleet.transaction() as session:
            account = create_account(session, self.fleet.context.vault, name=name, now=self.fleet.now)
            account_id = account.id
        return self.token(account_id, scopes)

    def scoped(self, *scopes: Scope) -> Client:
        """A client of the same account with these scopes only."""
        return self.token(self.fleet.caller.account_id, scopes)

    def token(self, account_id: str, scopes: Iterable[Scope]) -> Client:
        with self.fleet.transaction() as session:
            _, clear = create_token(session, account_id=account_id, name="test", scopes=scopes, now=self.fleet.now)
        return Client(http=self.app.test_client(), token=clear)


def build_api(
    fleet: Fleet,
    *,
    context: Context | None = None,
    streams: Streams = QUICK,
    logs: Sequence[MutableMapping[str, Any]] = (),
) -> Api:
    """The application around the fleet's context, with the fleet's clock."""
    app = create_app(context or fleet.context, streams=streams, clock=lambda: fleet.now)
    api = Api(app=app, fleet=fleet, client=Client(http=app.test_client(), token=""), logs=logs)
    api.client = api.scoped(*ALL_SCOPES)
    return api


def submission(**overrides: Any) -> dict[str, Any]:
    """A good body of POST /v1/certificates; an override of ``...`` leaves the field out."""
    issued = pki.server_with_chain("shop.example.com", "www.shop.example.com")
    body = {
        "source": "third_party",
        "type": "server",
        "certificate": issued.chain_pem,
        "private_key": issued.key_pem,
        "regions": list(REGIONS),
        **overrides,
    }
    return {name: value for name, value in body.items() if value is not ...}


def answer(response: TestResponse) -> dict[str, Any]:
    """The JSON object of an answer."""
    document = response.get_json()
    assert isinstance(document, dict), response.text
    return document


def codes(response: TestResponse) -> set[tuple[str, str]]:
    """(field, code) of every refused field of a 422."""
    assert response.status_code == 422, response.text
    assert response.mimetype == "application/problem+json"
    return {(error["field"], error["code"]) for error in answer(response)["errors"]}
