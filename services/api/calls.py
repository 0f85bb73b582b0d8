"""One authenticated request: who asks, when, and the transaction it all happens in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Final, ParamSpec, cast

from apiflask.types import ResponseReturnValueType
from flask import Response, current_app, g, request
from sqlalchemy.orm import Session

from services.api import bodies
from services.api.auth import identify
from shared.domain.scopes import Scope
from shared.errors import FieldError, NotFound, Rejected
from shared.usecases import idempotency
from shared.usecases.context import Context
from shared.usecases.idempotency import StoredAnswer
from shared.usecases.paging import PageRequest
from shared.usecases.tokens import Caller

P = ParamSpec("P")

KEY_LENGTH: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a view works with."""

    context: Context
    session: Session
    caller: Caller
    now: datetime

    def page(self, query: dict[str, Any]) -> PageRequest:
        """Take ``limit`` and ``cursor`` out of the query; what is left are the filters that a cursor is bound to."""
        limit, cursor = query.pop("limit"), query.pop("cursor")
        filters = [f"{name}={value}" for name, value in sorted(query.items())]
        return PageRequest(limit=limit, cursor=cursor, binding=(self.caller.account_id, request.path, *filters))


def current_call() -> Call:
    """The call of this request; only inside a view under :func:`authorized`."""
    return cast("Call", g.call)


def current_context() -> Context:
    """What the process was built with."""
    return cast("Context", current_app.extensions["certfleet"])


def current_time() -> datetime:
    """Aware UTC, by the application's clock."""
    return cast("datetime", current_app.extensions["clock"]())


def authorized(
    scope: Scope,
) -> Callable[[Callable[P, ResponseReturnValueType]], Callable[P, ResponseReturnValueType]]:
    """The view needs a token with this scope. Put it directly under the route, above ``input`` and ``output``.

    The view and everything below run in one transaction, which is committed before the answer is sent; an
    Idempotency-Key is honoured on every POST.
    """

    def decorate(view: Callable[P, ResponseReturnValueType]) -> Callable[P, ResponseReturnValueType]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValueType:
            bodies.receive(request)
            context, now = current_context(), current_time()
            with context.transaction() as session:
                caller = identify(session, scope, now=now)
                g.call = Call(context=context, session=session, caller=caller, now=now)
                _check_path()
                bodies.check(request)
                return _answered_once(g.call, lambda: view(*args, **kwargs))

        return guarded

    return decorate


def _check_path() -> None:
    """No id of ours holds anything but printable ASCII; the database refuses some of the rest."""
    values = [str(value) for value in (request.view_args or {}).values()]
    if not all(value.isascii() and value.isprintable() for value in values):
        raise NotFound("There is nothing of that id.", hint="Take ids from the lists.")


def _answered_once(call: Call, answer: Callable[[], ResponseReturnValueType]) -> ResponseReturnValueType:
    key = request.headers.get("Idempotency-Key")
    if request.method != "POST" or key is None:
        return answer()
    _check_key(key)
    fingerprint = idempotency.request_hash(request.method, request.path, request.get_data(cache=True))
    reservation = idempotency.reserve(
        call.context, call.session, call.caller, key=key, fingerprint=fingerprint, now=call.now
    )
    if reservation.answer is not None:
        return _replayed(reservation.answer)
    response = current_app.make_response(cast("Any", answer()))
    stored = StoredAnswer(
        status=response.status_code, location=response.headers.get("Location"), body=response.get_data()
    )
    idempotency.store(call.context, call.session, call.caller, reservation, stored)
    return response


def _check_key(key: str) -> None:
    if 0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable():
        return
    error = FieldError(
        field="Idempotency-Key",
        code="invalid_idempotency_key",
        message=f"The header takes 1 to {KEY_LENGTH} printable ASCII characters.",
        hint="Send a random UUID.",
    )
    raise Rejected(error.message, code=error.code, hint=error.hint, errors=(error,))


def _replayed(answer: StoredAnswer) -> Response:
    response = Response(answer.body, status=answer.status, mimetype="application/json")
    if answer.location is not None:
        response.headers["Location"] = answer.location
    response.headers["Idempotency-Replayed"] = "true"
    return response
