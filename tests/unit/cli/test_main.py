"""How the command line says errors."""

from __future__ import annotations

import sys

import click
import pytest

from services.cli import main as main_module
from services.cli.main import REFUSED, main, sentences
from shared.errors import FieldError, Misconfigured, NotFound, Rejected

pytestmark = pytest.mark.unit


def test_all_problems_of_the_settings_are_said() -> None:
    assert sentences(Misconfigured(("First.", "Second."))) == ("First.", "Second.")


def test_a_hint_follows_its_message() -> None:
    assert sentences(NotFound("There is no account.", hint="Create one.")) == ("There is no account. Create one.",)


def test_every_refused_field_is_said() -> None:
    error = Rejected("Not so.", errors=(FieldError(field="name", code="bad", message="Too long.", hint="Shorten it."),))

    assert sentences(error) == ("Not so.", "name: Too long. Shorten it.")


def test_an_error_of_the_tree_is_a_sentence_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise Misconfigured(("Port 1 is taken.",))

    monkeypatch.setattr(main_module, "cli", failing)
    monkeypatch.setattr(sys, "argv", ["certfleet"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == REFUSED
    assert capsys.readouterr().err == "certfleet: Port 1 is taken.\n"
