"""One certificate's page and its job's: what they say, what they do, and whose they are."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from services.api.console.registration import is_console
from tests.support import pki
from tests.support.api import Api, answer
from tests.support.console import signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener

ANSWERED_TO_ANYBODY = {
    ("POST", "/certificates/<certificate_id>/replace"): 422,  # the form is empty
    ("GET", "/regions/<region_id>"): 200,  # regions are the operator's; what is in them is not
}


def test_the_page_has_the_chain_the_life_and_every_region(api: Api) -> None:
    certificate = api.deployed()
    page = signed_in(api).page(f"/certificates/{certificate['id']}")
    assert page.count('<ul class="tree">') == len(certificate["chain"])
    assert '<svg class="line"' in page
    assert certificate["fingerprint_sha256"] in page
    assert page.count('<th scope="row" class="nowrap">') == 3
    assert "Not known" not in page


def test_a_rejected_upload_shows_why(api: Api) -> None:
    certificate = api.submit(certificate="nonsense")["certificate"]
    api.fleet.run()
    page = signed_in(api).page(f"/certificates/{certificate['id']}")
    assert "rejected" in page
    assert "What was found" in page
    assert '<svg class="line"' not in page


def test_deletion_shows_who_would_lose_it_and_does_it_once_nobody_would(api: Api) -> None:
    used, free = api.deployed(), api.submit(**_other())["certificate"]
    api.fleet.run()
    add_listener(api.fleet, REGIONS[0], ["shop.example.com"], server=used["id"])
    one = signed_in(api)
    blocked = one.page(f"/certificates/{used['id']}/delete")
    assert "In use: clients would lose it." in blocked
    assert "Delete for good" not in blocked
    assert one.submit("/certificates", f"/certificates/{used['id']}/delete").status_code == 409
    path = f"/certificates/{free['id']}/delete"
    assert "removed from 3 regions" in one.page(path)
    answer = one.submit(path, path)
    assert answer.status_code == 303
    api.fleet.run()
    assert one.get(f"/certificates/{free['id']}").status_code == 404
    assert "succeeded" in one.page(answer.headers["Location"])


def test_replace_takes_new_content_and_refuses_none(api: Api) -> None:
    certificate = api.deployed()
    one = signed_in(api)
    path = f"/certificates/{certificate['id']}/replace"
    refused = one.submit(path, path)
    assert refused.status_code == 422
    assert "certificate" in refused.text
    issued = pki.server_with_chain("shop.example.com", "www.shop.example.com")
    taken = one.submit(path, path, {"certificate": issued.chain_pem, "private_key": issued.key_pem})
    assert taken.status_code == 303


def test_renewing_an_upload_says_what_to_do_instead(api: Api) -> None:
    certificate = api.deployed()
    path = f"/certificates/{certificate['id']}"
    answer = signed_in(api).submit(path, f"{path}/renew")
    assert answer.status_code in {409, 422}
    assert "replace" in answer.text.lower()


def test_the_download_is_the_zip_and_a_form(api: Api) -> None:
    certificate = api.deployed()
    path = f"/certificates/{certificate['id']}"
    one = signed_in(api)
    answer = one.submit(path, f"{path}/download")
    assert answer.mimetype == "application/zip"
    assert len(zipfile.ZipFile(io.BytesIO(answer.data)).namelist()) == 2
    assert one.get(f"{path}/download").status_code == 405


def test_the_chain_says_of_each_who_issued_it_how_long_it_lasts_and_its_key(api: Api) -> None:
    certificate = api.deployed()
    chain = signed_in(api).page(f"/certificates/{certificate['id']}").split('<ul class="tree">', 1)[1]
    for one in certificate["chain"]:
        assert f'<span class="soft">{one["subject"]}</span>' in chain
        assert one["issuer"] in chain
        assert f"to {one['not_after'][:10]}" in chain
        assert f"key {one['key_algorithm']} · signature sha256" in chain
    assert chain.count("(which clients have themselves)") == 1


def test_an_upload_that_ends_soon_is_told_what_to_do_instead_of_renewing(api: Api) -> None:
    certificate = api.deployed()
    one = signed_in(api)
    path = f"/certificates/{certificate['id']}"
    advice = "nobody here can have it issued anew"
    assert advice not in one.page(path)
    api.fleet.now = pki.NOW + 246 * pki.DAY
    one = signed_in(api, email="bob@example.com")
    page = one.page(path)
    assert advice in page
    assert ">Renew</button>" not in page


def test_the_history_has_jobs_events_and_attempts(api: Api) -> None:
    certificate = api.deployed()
    page = signed_in(api).page(f"/certificates/{certificate['id']}")
    assert "<code>deployment.succeeded</code>" in page
    assert "<code>job.succeeded</code>" in page
    assert "<code>certificate.validated</code>" in page
    attempts = page.split('aria-label="Tries at regions"')[1]
    assert attempts.count('<span class="badge good">succeeded</span>') == 3


def test_it_is_removed_from_one_region_unless_a_listener_there_shows_it(reachable: Api) -> None:
    certificate = reachable.deployed()
    add_listener(reachable.fleet, REGIONS[0], ["shop.example.com"], server=certificate["id"])
    reachable.fleet.run()
    one = signed_in(reachable)
    used, free = (f"/certificates/{certificate['id']}/regions/{region}/remove" for region in REGIONS[:2])
    page = one.page(used)
    assert "In use: clients would lose it." in page
    assert '<form method="post" class="actions">' not in page
    assert one.submit("/certificates", used).status_code == 409
    assert one.submit(free, free).status_code == 303
    reachable.fleet.run()
    now = answer(reachable.client.get(f"/v1/certificates/{certificate['id']}"))
    states = [each["state"] for each in now["deployments"]]
    assert states == ["deployed", "removed", "deployed"]
    assert one.get(f"/certificates/{certificate['id']}/regions/nowhere/remove").status_code == 404


def test_a_job_streams_its_events_to_the_page(api: Api) -> None:
    accepted = api.submit()
    api.fleet.run()
    stream = signed_in(api).get(f"/jobs/{accepted['job']['id']}/events?after=0")
    assert stream.mimetype == "text/event-stream"
    assert "event: job.succeeded" in stream.text


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, ""])
def test_a_stream_that_is_asked_for_wrongly_begins_at_the_beginning(api: Api, after: str) -> None:
    accepted = api.submit()
    api.fleet.run()
    stream = signed_in(api).get(f"/jobs/{accepted['job']['id']}/events?after={after}")
    assert "event: job.queued" in stream.text


def test_no_id_of_another_account_is_found_on_any_page(api: Api) -> None:
    certificate = api.deployed()
    ids = {
        "certificate_id": certificate["id"],
        "job_id": certificate["deployments"][0]["job_id"],
        "region": REGIONS[0],
        "region_id": REGIONS[0],
        "listener_id": "lsn_x",
        "session_id": "ses_x",
    }
    eve = stranger(api)
    token = eve.token("/certificates")
    checked = 0
    for rule in api.app.url_map.iter_rules():
        if not is_console(rule.endpoint) or not rule.arguments or rule.arguments & {"token", "name"}:
            continue
        path = rule.build({name: ids.get(name, "nothing") for name in rule.arguments})
        assert path is not None
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = eve.http.open(path[1], method=method, data={"csrf_token": token} if method == "POST" else None)
            expected = ANSWERED_TO_ANYBODY.get((method, rule.rule), 404)
            assert answer.status_code in {404, expected}, (method, rule.rule)
            assert certificate["name"] not in answer.text
            checked += 1
    assert checked > 8


def test_cancelling_says_what_it_means(api: Api) -> None:
    accepted = api.submit()
    one = signed_in(api)
    path = f"/jobs/{accepted['job']['id']}"
    assert one.submit(path, f"{path}/cancel").status_code == 303
    assert "Regions that have not begun" in one.page(path)
    assert "Regions that have not begun" not in one.page(path)


def _other() -> dict[str, Any]:
    issued = pki.server_with_chain("other.example.com")
    return {"certificate": issued.chain_pem, "private_key": issued.key_pem}
