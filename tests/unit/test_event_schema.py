"""The look at every event that tests make happen sees what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest

from shared.events.catalogue import EventType
from tests.support.event_samples import sample
from tests.support.event_schema import fault_of


def event(event_type: EventType, **data: Any) -> dict[str, Any]:
    return {
        "type": event_type.value,
        "id": "evt_1",
        "sequence": 7,
        "timestamp": "2030-01-31T09:00:00Z",
        "account_id": "acc_1",
        "data": {**sample(event_type), **data},
    }


@pytest.mark.parametrize("event_type", EventType)
def test_a_sample_of_each_type_fits(event_type: EventType) -> None:
    assert fault_of(event(event_type, something="new")) == ""


@pytest.mark.parametrize(
    ("event_type", "wrong"),
    [
        (EventType.DEPLOYMENT_FAILED, {"attempt": "1"}),
        (EventType.DEPLOYMENT_FAILED, {"state": "asleep"}),
        (EventType.JOB_FAILED, {"regions": {"eu-1": "gone"}}),
        (EventType.CERTIFICATE_REJECTED, {"findings": [{"code": "expired"}]}),
        (EventType.WEBHOOK_TEST, {"webhook_id": None}),
    ],
)
def test_what_does_not_fit_is_told_by_type_number_and_place(event_type: EventType, wrong: dict[str, Any]) -> None:
    assert fault_of(event(event_type, **wrong)).startswith(f"{event_type} #7: $.data.{next(iter(wrong))}")
