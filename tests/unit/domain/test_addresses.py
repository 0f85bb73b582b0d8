"""Which e-mail addresses are accepted: one rule, at the request and again before a mail is sent."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from shared.domain.addresses import MAX_ADDRESS, checked_address, is_address
from shared.errors import Rejected
from shared.schemas.base import email

pytestmark = pytest.mark.unit

LONGEST = "a" * 64 + "@" + ".".join(["b" * 63, "c" * 63, "d" * 61])


@pytest.mark.parametrize("address", ["ops@example.com", "a.b+tag@mail.example.com", "root@localhost", LONGEST])
def test_plain_addresses_are_accepted(address: str) -> None:
    email(address)
    assert checked_address(address, field="contacts") == address


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "nobody",
            "@example.com",
            "ops@",
            "ops@example.com\r\nBcc: x@example.com",
            "ops@example.com,x@example.com",
        ),
        *("Ops <ops@example.com>", '"o p s"@example.com', "ops@example..com", "o..ps@example.com", "ops@-example.com"),
        *(
            ".ops@example.com",
            "ops.@example.com",
            "ops@example-.com",
            "ops@[127.0.0.1]",
            "öps@example.com",
            "=?utf-8?q?a=0ABcc=3Ax?=@example.com",
            LONGEST + "d",
        ),
    ],
)
def test_everything_else_is_refused_at_the_request_and_by_the_command(address: str) -> None:
    assert not is_address(address)
    with pytest.raises(ValidationError):
        email(address)
    with pytest.raises(Rejected) as refused:
        checked_address(address, field="contacts")
    assert [(error.field, error.code) for error in refused.value.errors] == [("contacts", "invalid_email")]


def test_the_longest_address_has_254_characters() -> None:
    assert len(LONGEST) == MAX_ADDRESS
