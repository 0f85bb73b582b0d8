"""What people do, on ``certfleet up``: real workers and load balancers, and pages that follow them live."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Page, expect

from services.cli.operating import operating
from shared.config.regions import load_regions
from shared.domain.findings import CATALOGUE, Code
from shared.usecases.accounts import find_account
from shared.usecases.clock import utc_now
from shared.usecases.people import add_person, set_password
from tests.support import pki
from tests.support.browsing import Up, choose, doctor, is_marked, mark, paste, row
from tests.support.chromium import visitor
from tests.support.console import PASSWORD
from tests.support.receiver import running_receiver
from tests.support.visits import client_context, visit

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

REGIONS = ("cn-hangzhou", "eu-central-1", "us-west-1")
SICK = "us-west-1"
LIVE_MILLISECONDS = 60_000
"""For what workers do on a busy machine."""


def test_a_pasted_certificate_is_judged_created_and_followed_live_into_every_region(up: Up) -> None:
    issued = valid("paste.example.test")
    with up.console.page() as page:
        page.goto("/certificates")
        page.get_by_role("link", name="Add certificate").first.click()
        paste(page, issued.chain_pem, issued.key_pem)
        expect(doctor(page)).to_contain_text("Valid: nothing to remark.")
        choose(page, *REGIONS)
        page.get_by_role("button", name="Create").click()
        page.wait_for_url("**/jobs/*")
        mark(page)
        expect_state(page, "succeeded")
        for region in REGIONS:
            expect(row(page, region)).to_contain_text("deployed")
        assert is_marked(page), "the page followed by itself, it was not loaded again"
        page.goto("/certificates?q=paste.example.test")
        expect(page.get_by_role("row").filter(has_text="paste.example.test")).to_contain_text("deployed")


def test_picked_and_dropped_files_fill_the_form_and_what_is_no_pem_is_named_with_its_command(
    up: Up, tmp_path: Path
) -> None:
    issued = valid("files.example.test")
    (tmp_path / "shop.cer").write_bytes(issued.certificate.public_bytes(Encoding.DER))
    (tmp_path / "shop.pem").write_text(issued.chain_pem)
    with up.console.page() as page:
        page.goto("/certificates/add")
        page.locator("#certificate-file").set_input_files(tmp_path / "shop.cer")
        expect(doctor(page)).to_contain_text("openssl x509 -inform")
        page.locator("#certificate-file").set_input_files(tmp_path / "shop.pem")
        expect(page.get_by_label("Certificate (PEM)")).to_have_value(issued.chain_pem)
        drop(page, "private_key", name="shop.key", text=issued.key_pem)
        expect(page.get_by_label("Private key (PEM)")).to_have_value(issued.key_pem)
        choose(page, REGIONS[0])
        page.get_by_role("button", name="Create").click()
        expect_state(page, "succeeded")


def test_one_region_fails_alone_and_is_retried_from_its_row(up: Up) -> None:
    with up.console.page() as page:
        with broken(up.regions / SICK):
            create(page, valid("retry.example.test"), *REGIONS)
            expect_state(page, "partly succeeded")
            expect(row(page, SICK)).to_contain_text("failed")
            for region in set(REGIONS) - {SICK}:
                expect(row(page, region)).to_contain_text("deployed")
            expect(page.get_by_role("button", name="Retry")).to_have_count(1)
        row(page, SICK).get_by_role("button", name="Retry").click()
        expect_state(page, "succeeded")
        expect(row(page, SICK)).to_contain_text("deployed")
        expect(page.get_by_role("row")).to_have_count(2)


def test_a_certificate_is_replaced_everywhere_and_the_old_one_says_by_which(up: Up) -> None:
    with up.console.page() as page:
        create(page, valid("replace.example.test"), *REGIONS)
        expect_state(page, "succeeded")
        page.get_by_role("link", name="To the certificate").click()
        old = page.url
        page.get_by_role("link", name="Replace", exact=True).click()
        issued = valid("replace.example.test", number=3)
        paste(page, issued.chain_pem, issued.key_pem)
        page.get_by_role("button", name="Replace").click()
        expect_state(page, "succeeded")
        page.goto(old)
        page.get_by_role("link", name="its successor").click()
        expect(page.get_by_role("main")).to_contain_text(issued.fingerprint_sha256)


def test_a_mutual_listener_is_made_proven_and_kept_from_a_certificate_that_does_not_cover_it(
    up: Up, tmp_path: Path
) -> None:
    host, region = "mutual.example.test", REGIONS[0]
    clients = pki.authority("Browser Clients CA")
    address = load_regions(Path(up.stack.connection.regions_file))[region].listener_address
    assert address
    with up.console.page() as page:
        add_authority(page, clients, region)
        create(page, valid(host), region)
        expect_state(page, "succeeded")
        certificate = page.get_by_role("link", name="To the certificate").get_attribute("href")
        page.goto(f"/listeners/add?region={region}")
        page.get_by_label("Name", exact=True).fill("mutual")
        page.get_by_label("Host names").fill(host)
        page.get_by_label("Certificate that clients are shown").select_option(label=option(page, host))
        page.get_by_label("Mutual").check()
        page.get_by_label("CA whose clients are let in").select_option(label=option(page, "Browser Clients CA"))
        page.get_by_role("button", name="Create").click()
        expect_state(page, "succeeded")
        page.goto("/listeners?q=mutual")
        expect(page.get_by_role("row").filter(has_text=host)).to_contain_text("served")
        assert visit(address, client_context(tmp_path, None), host).status == 0
        friend = pki.client(issuer=clients, not_after=datetime.now(UTC) + timedelta(days=99))
        assert visit(address, client_context(tmp_path, friend), host).status == 200

        page.goto(f"{certificate}/replace")
        other = valid("other.example.test", number=4)
        paste(page, other.chain_pem, other.key_pem)
        page.get_by_role("button", name="Replace").click()
        expect_state(page, "failed")
        expect(page.get_by_role("main")).to_contain_text(CATALOGUE[Code.HOST_NOT_COVERED].remedy)


def test_a_webhook_is_added_tried_and_one_delivery_is_sent_again(up: Up) -> None:
    with running_receiver() as receiver, up.console.page() as page:
        page.goto("/webhooks/add")
        page.get_by_label("Address of the receiver").fill(receiver.url)
        page.get_by_role("button", name="Add endpoint").click()
        expect(page.locator(".secret")).to_contain_text("whsec_")
        page.get_by_role("link", name="To the endpoint").click()
        page.get_by_role("button", name="Send a test").click()
        receiver.wait_for(1)
        expect_state(page, "delivered")
        page.get_by_role("button", name="Send again").click()
        first, second = receiver.wait_for(2)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        expect(page.get_by_text("Attempt 2")).to_be_visible(timeout=LIVE_MILLISECONDS)


def test_the_form_to_add_is_filled_in_by_keyboard_alone(up: Up) -> None:
    issued = valid("keys.example.test")
    with up.console.page() as page:
        page.goto("/certificates/add")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        tab_to(page, "#certificate")
        page.keyboard.insert_text(issued.chain_pem)
        tab_to(page, "#private_key")
        page.keyboard.insert_text(issued.key_pem)
        tab_to(page, f'input[value="{REGIONS[0]}"]')
        page.keyboard.press("Space")
        tab_to(page, "button:not([formaction])")
        page.keyboard.press("Enter")
        expect_state(page, "succeeded")
        expect(row(page, REGIONS[0])).to_contain_text("deployed")


def test_signing_in_by_password_leads_on_and_signing_out_ends_it(up: Up) -> None:
    with operating(up.stack.state.root) as context, context.transaction() as session:
        account_id = find_account(session, name="default").id
        set_password(add_person(session, account_id=account_id, email="pat@example.test", now=utc_now()), PASSWORD)
    with visitor(up.console.browser, up.console.address) as page:
        page.goto("/certificates?q=somewhere")
        page.get_by_label("E-mail address").fill("pat@example.test")
        page.get_by_label("Password").fill("not that one")
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("wrong")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile(r"/certificates\?q=somewhere$"))
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile(r"/sign-in$"))
        page.goto("/certificates")
        expect(page).to_have_url(re.compile(r"/sign-in\?next="))


def valid(host: str, *, number: int = 0) -> pki.Issued:
    """Valid by the real clock, under an intermediate."""
    now = datetime.now(UTC)
    return pki.server_with_chain(
        host, number=number, not_before=now - timedelta(days=1), not_after=now + timedelta(days=99)
    )


def create(page: Page, issued: pki.Issued, *regions: str) -> None:
    page.goto("/certificates/add")
    paste(page, issued.chain_pem, issued.key_pem)
    choose(page, *regions)
    page.get_by_role("button", name="Create").click()
    page.wait_for_url("**/jobs/*")


def add_authority(page: Page, authority: pki.Issued, region: str) -> None:
    """A CA certificate: the field for a key goes, and none is needed."""
    page.goto("/certificates/add")
    page.get_by_label("CA certificate").check()
    expect(page.get_by_label("Private key (PEM)")).to_be_hidden()
    page.get_by_label("Certificate (PEM)").fill(authority.pem)
    choose(page, region)
    page.get_by_role("button", name="Create").click()
    expect_state(page, "succeeded")


def option(page: Page, name: str) -> str:
    """The whole text of the choice that names it."""
    return page.locator("option", has_text=name).first.inner_text()


def expect_state(page: Page, words: str) -> None:
    """The job's state at the head of its page."""
    expect(page.get_by_role("status").filter(has_text=words)).to_be_visible(timeout=LIVE_MILLISECONDS)


@contextmanager
def broken(directory: Path) -> Iterator[None]:
    """The load balancer's directory is away, and a file in its place."""
    away = directory.rename(directory.with_name(f"{directory.name}.away"))
    directory.write_text("A file where the region's directory belongs.\n")
    try:
        yield
    finally:
        directory.unlink()
        away.rename(directory)


def drop(page: Page, field: str, *, name: str, text: str) -> None:
    """Drop a file onto a field, as the browser tells it to the page."""
    data = page.evaluate_handle(
        """([name, text]) => {
            const data = new DataTransfer();
            data.items.add(new File([text], name));
            return data;
        }""",
        [name, text],
    )
    page.locator(f'[data-drop="{field}"]').dispatch_event("drop", {"dataTransfer": data})


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the form's control has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(`form[data-doctor] ${selector}`)", selector):
            return
    pytest.fail(f"{selector} cannot be reached by Tab")
