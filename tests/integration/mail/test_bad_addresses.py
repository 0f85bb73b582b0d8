"""Every place that takes an address refuses, by field, what is none: by the API and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.main import cli
from shared.domain.reminders import DAY
from shared.errors import Rejected
from tests.support.api import Api, build_api, codes, submission
from tests.support.fleet import build_fleet
from tests.support.reminders import add_certificate

BAD = (
    *("", "nobody", "a@", "@example.com", "a b@example.com", "Ann <a@example.com>", "a@example.com, b@example.com"),
    *("a@example.com\r\nBcc: b@example.com", "a@example.com\n", "a@example.com\u2028", "a@exa\u202emple.com"),
    *("a@ex\u0430mple.com", "\u00e4@example.com", "=?utf-8?q?a=0A?=@example.com", "a@[127.0.0.1]", "a@" + "b" * 300),
)
"""None, two, a name beside it, line ends, directions, a look-alike letter, an encoded word, a literal, one too long."""


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    fleet = build_fleet(database_url, tmp_path)
    yield build_api(fleet)
    fleet.context.database.close()


@pytest.mark.parametrize("place", ["create", "validate", "change", "account"])
def test_the_api_refuses_what_is_no_address_and_names_the_field(api: Api, place: str) -> None:
    certificate_id = add_certificate(api.fleet, left=50 * DAY)
    send: dict[str, Any] = {
        "create": lambda contacts: api.client.post("/v1/certificates", submission(contacts=contacts)),
        "validate": lambda contacts: api.client.post("/v1/certificates/validate", submission(contacts=contacts)),
        "change": lambda contacts: api.client.patch(f"/v1/certificates/{certificate_id}", {"contacts": contacts}),
        "account": lambda contacts: api.client.patch("/v1/account", {"contacts": contacts}),
    }

    for text in BAD:
        assert codes(send[place](["ops@example.com", text])) == {("contacts.1", "invalid_email")}, text
    assert codes(send[place](["a@example.com\x00"])) == {("contacts.0", "invalid_character")}


@pytest.fixture
def environment(api: Api, redis_url: str, tmp_path: Path) -> dict[str, str]:
    regions = tmp_path / "regions.toml"
    regions.write_text(f'[[region]]\nid = "cn-hangzhou"\ndriver = "directory"\nsettings = {{path = "{tmp_path}/cn"}}\n')
    return {
        "DATABASE_URL": api.fleet.context.settings.database_url,
        "REDIS_URL": redis_url,
        "CERTFLEET_KEK_FILE": str(api.fleet.context.settings.kek_file),
        "CERTFLEET_REGIONS": str(regions),
    }


@pytest.mark.parametrize(
    "command",
    [
        ("accounts", "create", "new", "--contact"),
        ("accounts", "set", "default", "--contact"),
        ("people", "add", "--account", "default", "--"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_refuses_what_is_no_address(environment: dict[str, str], command: tuple[str, ...]) -> None:
    for text in (text for text in BAD if text == text.strip()):  # a person's address is taken without blanks around it
        result: Result = CliRunner(env=environment).invoke(cli, [*command, text])
        assert result.exit_code != 0, text
        assert isinstance(result.exception, SystemExit | Rejected), text
