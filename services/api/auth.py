"""Who is asking: bearer tokens and their scopes."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from flask import request
from sqlalchemy.orm import Session

from shared.domain.scopes import Scope
from shared.errors import Forbidden, Unauthenticated
from shared.usecases.tokens import Caller, authenticate

SCHEME: Final = "Bearer"


def identify(session: Session, scope: Scope, *, now: datetime) -> Caller:
    """Whose token the request carries.

    Raises:
        Unauthenticated: none, or not one of ours.
        Forbidden: it lacks the scope (``missing_scope``).
    """
    caller = authenticate(session, _bearer_token(), now=now)
    structlog.contextvars.bind_contextvars(account_id=caller.account_id, token_id=caller.token_id)
    if scope not in caller.scopes:
        raise Forbidden(
            f"The token lacks the scope {scope}.",
            code="missing_scope",
            hint=f"Use a token with the scope {scope}; this one has: {', '.join(sorted(caller.scopes)) or 'none'}.",
        )
    return caller


def _bearer_token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != SCHEME.lower() or not token.strip():
        raise Unauthenticated(
            "The bearer token is missing or not valid.", hint=f"Send the header Authorization: {SCHEME} <token>."
        )
    return token.strip()
