from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.domain.certificates import CertificateFacts, CertificateType
from shared.domain.findings import (
    CATALOGUE,
    Code,
    Finding,
    Origin,
    Severity,
    finding,
    has_errors,
    sorted_findings,
    with_severity,
)
from shared.domain.validation import (
    Presented,
    authority_findings,
    cancelled,
    duplicate_of,
    host_not_covered,
    managed_source_is_server_only,
    no_slot_to_replace,
    quota_exceeded,
    server_findings,
    unknown_region,
    visible,
)
from shared.domain.validation_page import catalogue_page

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
PAGE = Path(__file__).parents[3] / "docs" / "validation.md"


def facts(**overrides: object) -> CertificateFacts:
    usual = CertificateFacts(
        common_name="www.example.test",
        names=("www.example.test",),
        subject="CN=www.example.test",
        issuer="CN=Test Issuing CA",
        serial="1",
        not_before=NOW - 90 * DAY,
        not_after=NOW + 90 * DAY,
        key_algorithm="rsa-2048",
        signature_hash="sha256",
        fingerprint_sha1="0" * 40,
        fingerprint_sha256="0" * 64,
        is_ca=False,
        is_self_signed=False,
        for_server_auth=True,
    )
    return replace(usual, **overrides)  # type: ignore[arg-type] # any override at all


def leaf(**overrides: object) -> list[str]:
    return [item.code for item in server_findings(Presented(facts=facts(**overrides)), [], now=NOW)]


def authority(*, may_sign: bool = True, **overrides: object) -> list[str]:
    presented = Presented(facts=facts(**{"is_ca": True, **overrides}), may_sign=may_sign)
    return [item.code for item in authority_findings([presented], now=NOW)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, []),
        ({"not_after": NOW}, ["expires_soon"]),
        ({"not_after": NOW - SECOND}, ["expired"]),
        ({"not_before": NOW}, []),
        ({"not_before": NOW + SECOND}, ["not_yet_valid"]),
        ({"not_after": NOW + 30 * DAY}, []),
        ({"not_after": NOW + 30 * DAY - SECOND}, ["expires_soon"]),
        ({"not_before": NOW - DAY, "not_after": NOW + 5 * DAY}, ["expires_soon"]),
        ({"not_before": NOW + DAY, "not_after": NOW + 5 * DAY}, ["not_yet_valid", "expires_soon"]),
        ({"key_algorithm": "rsa-2047"}, ["weak_key"]),
        ({"key_algorithm": "rsa-pss-1024"}, ["weak_key"]),
        ({"key_algorithm": "ec-p256"}, []),
        ({"signature_hash": None}, []),
        ({"signature_hash": "sha1"}, ["weak_signature"]),
        ({"is_ca": True}, ["is_a_ca"]),
        ({"is_ca": None}, []),
        ({"for_server_auth": False}, ["not_for_server_auth"]),
    ],
)
def test_a_leaf_is_judged_by_its_facts(overrides: dict[str, object], expected: list[str]) -> None:
    assert leaf(**overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, []),
        ({"is_ca": False}, ["not_a_ca"]),
        ({"is_ca": None}, ["not_a_ca"]),
        ({"may_sign": False}, ["not_a_ca"]),
        ({"signature_hash": "md5"}, ["weak_signature"]),
        ({"signature_hash": "md5", "is_self_signed": True}, ["weak_signature"]),
        ({"not_after": NOW - SECOND}, ["expired"]),
        ({"for_server_auth": False}, []),
    ],
)
def test_an_authority_is_judged_by_its_facts(overrides: dict[str, object], expected: list[str]) -> None:
    assert authority(**overrides) == expected  # type: ignore[arg-type] # any override at all


@pytest.mark.parametrize(
    ("used", "severity"),
    [("sha1", Severity.WARNING), ("md5", Severity.ERROR), ("md4", Severity.ERROR), ("md2", Severity.ERROR)],
)
def test_a_forgeable_signature_weighs_by_its_hash(used: str, severity: Severity) -> None:
    (item,) = server_findings(Presented(facts=facts(signature_hash=used)), [], now=NOW)

    assert item.severity is severity


def test_a_self_signed_ca_as_server_certificate_is_only_a_warning() -> None:
    (item,) = server_findings(Presented(facts=facts(is_ca=True, is_self_signed=True)), [], now=NOW)

    assert (item.code, item.severity) == ("is_a_ca", Severity.WARNING)


def test_an_intermediate_expires_under_its_own_code() -> None:
    intermediate = Presented(facts=facts(is_ca=True, not_after=NOW - SECOND), line=20)
    (item,) = server_findings(Presented(facts=facts()), [intermediate], now=NOW)

    assert (item.code, item.line) == ("expired_intermediate", 20)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x00b\r\n\x1b[31m", "a\\x00b\\r\\n\\x1b[31m"),
        ("\u202egro.elpmaxe", "\\u202egro.elpmaxe"),
        ("\ud800", "\\ud800"),
        ("Bücher 書", "Bücher 書"),
        ("x" * 101, "x" * 99 + "…"),
        ("x" * 100, "x" * 100),
    ],
)
def test_names_of_strangers_are_shown_without_invisible_characters(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_findings_that_need_the_database_or_the_request_have_constructors() -> None:
    made = [
        managed_source_is_server_only(),
        duplicate_of("crt_1", "shop"),
        quota_exceeded("cn-hangzhou", CertificateType.CA, 100),
        unknown_region("mars\n", ["cn-hangzhou"]),
        host_not_covered(["b.example"], ["a.example"], listener="shop"),
        no_slot_to_replace("cn-hangzhou", CertificateType.SERVER, 100),
        cancelled(),
    ]

    assert {item.code for item in made} == {code for code, entry in CATALOGUE.items() if entry.origin != Origin.UPLOAD}
    fields = ["type", "certificate", "regions", "regions", "certificate", "regions", "certificate"]
    assert [item.field for item in made] == fields
    assert "shop (crt_1)" in made[1].message
    assert "100 certificates of type ca" in made[2].message
    assert made[3].message == "There is no region mars\\n."
    assert "cn-hangzhou" in made[3].hint
    assert made[4].message.endswith("b.example, which the listener shop serves; it covers a.example.")
    assert "one free slot" in made[5].message


def test_the_catalogue_explains_every_code_in_sentences() -> None:
    assert set(CATALOGUE) == set(Code)
    for entry in CATALOGUE.values():
        assert re.fullmatch(r"[a-z0-9_]+", entry.code)
        assert entry.severities
        assert entry.meaning.endswith(".")
        assert entry.remedy.endswith(".")


def test_a_finding_takes_its_code_as_plain_text_and_its_remedy_from_the_catalogue() -> None:
    item = finding(Code.EXPIRED, "certificate", message="It is over.", line=3)

    assert type(item.code) is str
    assert item == Finding(
        code="expired",
        severity=Severity.ERROR,
        field="certificate",
        message="It is over.",
        hint=CATALOGUE["expired"].remedy,
        line=3,
    )


def test_a_severity_that_the_catalogue_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="expired is never a fixed"):
        with_severity(finding(Code.EXPIRED, "certificate", message="It is over."), Severity.FIXED)


def test_errors_come_first_then_fields_then_lines() -> None:
    repaired = finding(Code.TEXT_REMOVED, "certificate", message="Text.", line=1)
    late = finding(Code.PEM_DAMAGED, "certificate", message="Late.", line=9)
    early = finding(Code.PEM_DAMAGED, "certificate", message="Early.", line=2)
    key = finding(Code.KEY_DAMAGED, "private_key", message="Key.", line=1)

    ordered = sorted_findings([repaired, key, late, early, late])

    assert ordered == (early, late, key, repaired)
    assert has_errors(ordered)
    assert not has_errors((repaired,))


def test_the_page_is_the_one_that_the_catalogue_makes() -> None:
    """Renew it with: python -m shared.domain.validation_page > docs/validation.md."""
    assert PAGE.read_text(encoding="utf-8") == catalogue_page()
