"""Every finding that an upload can cause is on screen as validation says it: words, line, remedy, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from shared.crypto.inspection import Upload, inspect
from shared.domain.certificates import CertificateType
from shared.domain.findings import CATALOGUE, Code, Finding, Origin
from tests.support import pki
from tests.support.browsing import LiveFleet, choose, doctor, paste, row
from tests.support.stack import wait_until
from tests.support.validation_corpus import CASES, Case, usual

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

BY_FILE = {Code.LINE_ENDINGS_NORMALIZED: "a browser pastes text with its own line ends: only a file has others"}
"""Codes that pasting cannot cause."""

WORDS = {"error": "error", "warning": "warning", "fixed": "fixed for you"}


def simplest(code: str) -> Case:
    """The input of the corpus that has this finding and the fewest others, of those that the page takes."""
    fitting = [case for case in CASES if code in case.codes and is_taken(case.upload())]
    return min(fitting, key=lambda case: len(case.codes))


def is_taken(upload: Upload) -> bool:
    """The page has no field for the key of a CA, and a form of more than a mebibyte is refused as a whole."""
    has_key_of_ca = upload.type is CertificateType.CA and upload.private_key is not None
    form = f"{upload.certificate}{upload.private_key}".encode("utf-8", "replace")
    return not has_key_of_ca and len(form) < 1 << 20


PASTED = [code for code, entry in CATALOGUE.items() if entry.origin is Origin.UPLOAD and code not in BY_FILE]


@pytest.fixture(scope="module")
def page(live: LiveFleet) -> Iterator[Page]:
    """The page to add, open all the time."""
    with live.console.page() as opened:
        opened.goto("/certificates/add")
        yield opened


@pytest.mark.parametrize("code", PASTED)
def test_what_is_pasted_is_judged_on_screen(page: Page, code: str) -> None:
    upload = simplest(code).upload()
    fill(page, upload)
    page.get_by_role("button", name="Check without creating").click()

    expected = [told(finding) for finding in inspect(upload, now=pki.NOW, key_policies={}).findings]
    wait_until(lambda: shown(doctor(page)) == expected, seconds=20, otherwise=lambda: (shown(doctor(page)), expected))
    assert any(CATALOGUE[code].remedy in hint for *_, hint in expected) or code in {"pem_required", "pem_damaged"}


def test_it_looks_at_what_is_pasted_without_being_asked(page: Page) -> None:
    issued = usual()
    page.get_by_label("Server certificate").check()
    paste(page, pki.to_pem(*issued.above) + issued.pem, issued.key_pem)
    expect(doctor(page)).to_contain_text("1 repair")
    page.get_by_label("Private key (PEM)").fill(pki.key_pem(pki.private_key("rsa-2048", 9)))
    expect(doctor(page)).to_contain_text(CATALOGUE[Code.KEY_MISMATCH].remedy)


def test_a_form_that_is_too_large_is_refused_aloud(page: Page) -> None:
    page.get_by_label("Server certificate").check()
    paste(page, "x" * 1_200_000, "")
    expect(doctor(page)).to_contain_text("too large")


def test_a_file_is_judged_as_it_is_without_javascript(live: LiveFleet, tmp_path: Path) -> None:
    issued = usual()
    certificate, key = tmp_path / "shop.pem", tmp_path / "shop.key"
    certificate.write_bytes(issued.chain_pem.replace("\n", "\r\n").encode())
    key.write_text(issued.key_pem)
    with live.console.page(scripts=False) as plain:
        plain.goto("/certificates/add")
        plain.locator("#certificate-file").set_input_files(certificate)
        plain.locator("#private_key-file").set_input_files(key)
        with plain.context.expect_page() as opened:
            plain.get_by_role("button", name="Check without creating").click()
        expect(opened.value.get_by_role("main")).to_contain_text("Line ends were CR LF")
        assert shown(opened.value.get_by_role("main"))[0][0] == "fixed for you"


def test_a_sample_is_shown_and_refused(page: Page) -> None:
    page.get_by_label("Server certificate").check()
    page.locator("details", has_text="View sample").first.click()
    sample = page.locator("pre").first.inner_text()
    paste(page, sample, usual().key_pem)
    expect(doctor(page)).to_contain_text(CATALOGUE[Code.SAMPLE_NOT_ALLOWED].remedy)


def test_a_full_region_and_a_second_copy_are_said_too(live: LiveFleet) -> None:
    with live.console.page() as page:
        create(page, live, "first.example.test", "roomy", "full")
        second = create(page, live, "second.example.test", "roomy", "full")
        expect(row(page, "full")).to_contain_text(Code.QUOTA_EXCEEDED)
        expect(row(page, "roomy")).to_contain_text("deployed")
        page.goto("/certificates/add")
        paste(page, second.chain_pem, second.key_pem)
        expect(doctor(page)).to_contain_text(CATALOGUE[Code.DUPLICATE_OF].remedy)


def create(page: Page, live: LiveFleet, host: str, *regions: str) -> pki.Issued:
    """Add a certificate and let the workers finish; the page is its job's then."""
    issued = pki.server_with_chain(host)
    page.goto("/certificates/add")
    paste(page, issued.chain_pem, issued.key_pem)
    choose(page, *regions)
    page.get_by_role("button", name="Create").click()
    page.wait_for_url("**/jobs/*")
    live.fleet.run()
    expect(page.get_by_role("heading", level=1)).to_contain_text(host)
    return issued


def fill(page: Page, upload: Upload) -> None:
    is_server = upload.type is CertificateType.SERVER
    page.get_by_label("Server certificate" if is_server else "CA certificate").check()
    key = upload.private_key or ""
    page.get_by_label("Certificate (PEM)").fill(upload.certificate)
    if is_server:
        page.get_by_label("Private key (PEM)").fill(key)


def shown(place: Locator) -> list[tuple[str, str, str, str]]:
    """Severity, message, line and hint of each finding on screen."""
    found: list[tuple[str, str, str, str]] = place.evaluate(
        """(place) => [...place.querySelectorAll(".findings li")].map((one) => {
            const text = (selector) => one.querySelector(selector)?.textContent ?? "";
            return [text(".badge"), text("strong"), text(".where"), text("p + p")];
        })"""
    )
    return [tuple(one) for one in found]  # type: ignore[misc] # four texts each


def told(finding: Finding) -> tuple[str, str, str, str]:
    where = f"line {finding.line}" if finding.line else ""
    return WORDS[finding.severity], finding.message, where, finding.hint
