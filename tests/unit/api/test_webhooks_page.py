"""docs/webhooks.md and docs/events.schema.json: current, complete, and true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped] # comes with openapi-spec-validator; has no types
import pytest

from services.api.webhooks_page import EXAMPLES, RECEIVERS, example, schema_document, webhooks_page
from shared.events.catalogue import MEANING, EventType
from shared.schemas.event_data import DATA, RESERVED

ROOT: Final = Path(__file__).parents[3]


def changed(event_type: str, **data: Any) -> dict[str, Any]:
    """An example payload with other data."""
    payload = example(event_type)
    return {**payload, "data": {**payload["data"], **data}}


def validate(payload: dict[str, Any]) -> None:
    jsonschema.validate(payload, json.loads(schema_document()), cls=jsonschema.Draft202012Validator)


def test_the_page_is_the_one_that_the_catalogue_makes() -> None:
    """Renew it with: python -m services.api.webhooks_page > docs/webhooks.md."""
    assert (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8") == webhooks_page()


def test_the_json_schema_is_the_one_that_the_schemas_make() -> None:
    """Renew it with: python -m services.api.webhooks_page schema > docs/events.schema.json."""
    assert (ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8") == schema_document()


def test_every_type_of_event_has_a_meaning_a_shape_and_a_line() -> None:
    assert set(DATA) == set(MEANING) == set(EventType)
    page = webhooks_page()
    for event_type in EventType:
        assert f"| `{event_type}` | {MEANING[event_type]}" in page


def test_every_shape_has_an_example() -> None:
    assert {DATA[event_type] for event_type in EXAMPLES} == set(DATA.values())


def test_a_type_is_reserved_exactly_if_nothing_sends_it() -> None:
    catalogue = ROOT / "shared" / "events" / "catalogue.py"
    sources = [path for part in ("shared", "services") for path in (ROOT / part).rglob("*.py") if path != catalogue]
    mentioned = set(re.findall(r"EventType\.([A-Z_]+)", "".join(path.read_text("utf-8") for path in sources)))
    assert {event_type for event_type in EventType if event_type.name not in mentioned} == RESERVED


@pytest.mark.parametrize("event_type", EXAMPLES)
def test_an_example_fits_its_shape_and_the_json_schema(event_type: str) -> None:
    assert DATA[event_type]().validate(EXAMPLES[event_type]) == {}
    validate(example(event_type))


def test_the_json_schema_lets_new_fields_pass() -> None:
    validate(changed("deployment.retrying", something="new"))


@pytest.mark.parametrize(
    "wrong",
    [
        changed("deployment.retrying", region=None),
        changed("deployment.retrying", state="asleep"),
        changed("deployment.retrying", error={"code": "unreachable"}),
        changed("certificate.expiring", days_left="29"),
        {**example("webhook.test"), "type": "webhook.unknown"},
        {**example("webhook.test"), "data": {}},
    ],
)
def test_the_json_schema_refuses_what_is_not_promised(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong)


def test_the_page_has_every_receiver_of_the_examples_word_for_word() -> None:
    """tests/integration/webhooks/test_examples.py runs them."""
    page, folder = webhooks_page(), ROOT / "docs" / "examples"
    assert {path.name for path in folder.glob("*receiver*")} == set(RECEIVERS)
    for file in RECEIVERS:
        assert (folder / file).read_text(encoding="utf-8").rstrip() + "\n```\n" in page
