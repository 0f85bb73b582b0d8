"""/v1/account: the settings of the token's account."""

from __future__ import annotations

from typing import Any

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized, current_call
from services.api.resource import Resource
from shared.domain.scopes import Scope
from shared.schemas.accounts import AccountOut, AccountPatchIn
from shared.usecases import account_settings

blueprint = Resource("accounts", __name__, tag="Account")


@blueprint.get("/v1/account")
@authorized(Scope.READ)
@blueprint.answers(AccountOut)
def read() -> ResponseReturnValueType:
    """Show the account: whom it tells of expiries, when, and how it renews."""
    call = current_call()
    return account_settings.read_settings(call.session, call.caller.account_id)


@blueprint.patch("/v1/account")
@authorized(Scope.ADMIN)
@blueprint.takes(AccountPatchIn)
@blueprint.answers(AccountOut)
def change(json_data: dict[str, Any]) -> ResponseReturnValueType:
    """Change the account's settings; what is left out stays. Needs the scope `admin`."""
    call = current_call()
    account = account_settings.change_settings(call.context, call.session, call.caller, json_data, now=call.now)
    return account_settings.settings_document(account)
