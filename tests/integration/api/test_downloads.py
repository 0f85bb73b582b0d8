"""Downloads: Nginx format, the right scope, written down, safe for any name."""

from __future__ import annotations

import io
import zipfile

import pytest

from shared.domain.scopes import Scope
from tests.support import pki
from tests.support.api import Api, answer


def files(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_server_certificate_is_a_chain_and_its_key(api: Api) -> None:
    issued = pki.server_with_chain("shop.example.com")
    certificate = api.deployed(certificate=issued.chain_pem, private_key=issued.key_pem)
    response = api.client.get(f"/v1/certificates/{certificate['id']}/download")
    assert response.mimetype == "application/zip"
    assert response.headers["Cache-Control"] == "no-store"
    assert files(response.data) == {"shop.example.com.pem": issued.chain_pem, "shop.example.com.key": issued.key_pem}
    assert api.client.items("/v1/audit")[0]["action"] == "certificate.downloaded"


def test_a_ca_certificate_has_no_key(api: Api) -> None:
    authority = pki.authority("Clients CA")
    certificate = api.deployed(type="ca", certificate=authority.pem, private_key=...)
    response = api.client.get(f"/v1/certificates/{certificate['id']}/download")
    assert files(response.data) == {"Clients_CA.pem": authority.pem}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ('quote"; filename="evil', "quote_filename_evil"),
        ("*.example.com", "example.com"),
        ("证书", "certificate"),
        ("a\\b/c", "a_b_c"),
        ("...", "certificate"),
    ],
)
def test_any_name_is_safe_in_header_and_archive(api: Api, name: str, stem: str) -> None:
    certificate = api.deployed(name=name)
    response = api.client.get(f"/v1/certificates/{certificate['id']}/download")
    assert set(files(response.data)) == {f"{stem}.pem", f"{stem}.key"}
    disposition = response.headers["Content-Disposition"]
    assert f'filename="{stem}.zip"' in disposition
    assert disposition.count('"') == 2
    assert disposition.isascii()


def test_without_the_scope_download_the_key_stays(api: Api) -> None:
    certificate = api.deployed()
    others = api.scoped(Scope.READ, Scope.WRITE, Scope.ADMIN)
    response = others.get(f"/v1/certificates/{certificate['id']}/download")
    assert (response.status_code, answer(response)["code"]) == (403, "missing_scope")
    assert "download" in answer(response)["detail"]
    only = api.scoped(Scope.DOWNLOAD)
    assert only.get(f"/v1/certificates/{certificate['id']}/download").status_code == 200


def test_what_is_not_valid_yet_cannot_be_downloaded(api: Api) -> None:
    certificate = api.submit()["certificate"]
    response = api.client.get(f"/v1/certificates/{certificate['id']}/download")
    assert (response.status_code, answer(response)["code"]) == (409, "certificate_not_valid")
