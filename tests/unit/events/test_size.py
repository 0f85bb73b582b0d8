"""No payload is longer than receivers should expect, however much there is to say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.catalogue import EventType
from shared.events.log import body_of
from shared.events.size import MOST_BYTES, fitting
from shared.models import Event
from shared.schemas.certificates import MAX_REGIONS
from tests.support.event_samples import sample
from tests.support.event_schema import fault_of

LONGEST_WORD = "x" * 64
"""Ids of regions and certificates are no longer."""


def finding(
    number: int, *, sentence: str = "The certificate 17 of the chain is not signed by the one after it."
) -> dict[str, Any]:
    return {
        "code": "chain_broken",
        "severity": "error",
        "field": "certificate",
        "message": sentence,
        "hint": "Send the chain of the issuer, in order, and nothing else.",
        "line": number,
    }


def regions(state: str = "failed") -> dict[str, str]:
    return {f"{number:03}{LONGEST_WORD[3:]}": state for number in range(MAX_REGIONS)}


def body(event_type: EventType, data: dict[str, Any]) -> bytes:
    now = datetime(2030, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)
    event = Event(
        id="evt_" + "0" * 26,
        account_id="acc_" + "0" * 26,
        sequence=2**63 - 1,
        type=event_type,
        data=fitting({**sample(event_type), **data}),
        timestamp=now,
    )
    return body_of(event)


LARGEST = [
    (EventType.CERTIFICATE_REJECTED, {"findings": [finding(n) for n in range(500)], "name": "證" * 200}),
    (EventType.CERTIFICATE_VALIDATED, {"findings": [finding(n, sentence="證" * 900) for n in range(100)]}),
    (
        EventType.JOB_FAILED,
        {
            "state": "failed",
            "regions": regions(),
            "error": {
                "code": "certificate_rejected",
                "message": "The upload was refused.",
                "retryable": False,
                "findings": [finding(n) for n in range(500)],
            },
        },
    ),
    (
        EventType.JOB_PARTIALLY_SUCCEEDED,
        {
            "regions": regions(),
            "error": {
                "code": "some_regions_failed",
                "message": f"200 of 201 regions failed: {', '.join(regions())}.",
                "retryable": False,
            },
        },
    ),
    (
        EventType.DEPLOYMENT_RETRYING,
        {"error": {"code": "busy", "message": "y" * 100_000, "retryable": True, "hint": "證" * 100_000}},
    ),
]


@pytest.mark.parametrize(("event_type", "data"), LARGEST, ids=[event_type for event_type, _ in LARGEST])
def test_the_largest_payloads_are_below_20_kb_and_fit_their_schema(event_type: EventType, data: dict[str, Any]) -> None:
    sent = body(event_type, data)
    assert len(sent) <= MOST_BYTES
    assert fault_of(json.loads(sent)) == ""
    assert json.loads(sent)["data"].get("regions") == data.get("regions")


def test_findings_are_cut_from_the_end_counted_and_said_where_they_are() -> None:
    whole = [finding(n) for n in range(500)]
    cut = fitting({"certificate_id": "cert_1", "name": "shop", "state": "rejected", "findings": whole})
    assert cut["findings"] == whole[: len(cut["findings"])]
    assert len(cut["findings"]) + cut["findings_omitted"] == 500
    assert cut["findings_at"] == "/v1/certificates/cert_1"
    one_more = {**cut, "findings": whole[: len(cut["findings"]) + 1]}
    assert len(json.dumps(one_more, separators=(",", ":"))) > MOST_BYTES - 500


def test_a_jobs_findings_are_at_the_job() -> None:
    error = {"code": "certificate_rejected", "findings": [finding(n) for n in range(500)]}
    cut = fitting({"job_id": "job_1", "error": error})
    assert cut["error"]["findings_at"] == "/v1/jobs/job_1"
    assert cut["error"]["findings_omitted"] > 0
    assert "findings" not in cut


def test_what_fits_is_left_as_it_is() -> None:
    data = {"findings": [finding(n) for n in range(20)]}
    assert fitting(data) is data


SENTENCES = st.text(max_size=3_000)


@given(findings=st.lists(st.builds(finding, st.integers(1, 9), sentence=SENTENCES), max_size=60), name=SENTENCES)
def test_whatever_is_said_it_fits(findings: list[dict[str, Any]], name: str) -> None:
    sent = body(EventType.CERTIFICATE_REJECTED, {"findings": findings, "name": name})
    assert len(sent) <= MOST_BYTES
