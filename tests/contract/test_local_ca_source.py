"""The private certificate authority passes the public contract suite, and what it issues is what clients believe."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from services.worker.sources.local_ca import LocalCa, LocalCaSettings, parse_settings
from shared.errors import Corrupt, Misconfigured, Unsupported
from shared.usecases.source import Issues
from tests.contract.source_kit import NAMES, ServiceUnderTest, SourceContract, leaf_of, names_of
from tests.support import pki
from tests.support.memory_sources import moment


def authority(path: Path, **settings: int) -> LocalCa:
    return LocalCa(LocalCaSettings(path=path, **settings), clock=moment(pki.NOW))


class TestLocalCa(SourceContract):
    @pytest.fixture
    def service(self, tmp_path: Path) -> ServiceUnderTest:
        source = authority(tmp_path / "ca")
        for name in NAMES:
            source.order([name], reference=name)
        return ServiceUnderTest(new_source=lambda: authority(tmp_path / "ca"))


def test_an_empty_directory_offers_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert authority(tmp_path / "ca").list_offers().offers == ()
    assert not (tmp_path / "ca").exists()


def test_an_order_covers_all_its_names_for_as_long_as_asked(tmp_path: Path) -> None:
    source = authority(tmp_path)
    assert isinstance(source, Issues)
    offer = source.order(["Shop.example.com", "*.shop.example.com", "192.0.2.7"], reference="a", days=20)
    leaf = leaf_of(source.fetch(offer.id))
    assert offer.names == ("shop.example.com", "*.shop.example.com", "192.0.2.7")
    assert names_of(source.fetch(offer.id)) == ["*.shop.example.com", "shop.example.com"]
    assert leaf.not_valid_after_utc == pki.NOW + timedelta(days=20)


def test_the_same_order_again_is_the_same_certificate(tmp_path: Path) -> None:
    first = authority(tmp_path).order(["a.example.com"], reference="a")
    assert authority(tmp_path).order(["a.example.com"], reference="a") == first
    assert authority(tmp_path).order(["a.example.com"], reference="b") != first


def test_the_chain_leads_to_the_root_that_clients_are_given(tmp_path: Path) -> None:
    source = authority(tmp_path)
    content = source.fetch(source.order(["a.example.com"], reference="a").id)
    leaf, issuer = x509.load_pem_x509_certificates(content.certificate_pem.encode())
    root = x509.load_pem_x509_certificate((tmp_path / "authority" / "root.pem").read_bytes())
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)


def test_keys_are_for_the_owner_alone_and_the_roots_is_not_kept(tmp_path: Path) -> None:
    authority(tmp_path / "ca").order(["a.example.com"], reference="a")
    files = [path for path in (tmp_path / "ca").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert {path.name for path in files} == {"issuer.key", "key.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_what_a_killed_run_left_behind_is_no_offer_and_in_nobodys_way(tmp_path: Path) -> None:
    source = authority(tmp_path)
    offer = source.order(["a.example.com"], reference="a")
    (tmp_path / "orders" / offer.id).rename(tmp_path / "orders" / f".{offer.id}")
    assert source.list_offers().offers == ()
    assert source.order(["a.example.com"], reference="a").id == offer.id


def test_a_renewal_lives_no_shorter_than_what_it_renews(tmp_path: Path) -> None:
    source = authority(tmp_path, days=30)
    old = source.order(["a.example.com"], reference="a", days=200)
    renewed = source.renew(old.id, reference="t").offer_id
    assert renewed is not None
    assert leaf_of(source.fetch(renewed)).not_valid_after_utc == old.not_after


@pytest.mark.parametrize(
    "name", ["", "two words", "-a.example.com", "a..example.com", "ä.example.com", "1.2.3.4.5", "a/b"]
)
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unsupported):
        authority(tmp_path).order([name], reference="a")


@pytest.mark.parametrize("days", [0, 399])
def test_a_life_out_of_bounds_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(Unsupported):
        authority(tmp_path).order(["a.example.com"], reference="a", days=days)


def test_a_damaged_order_is_said_to_be_so(tmp_path: Path) -> None:
    source = authority(tmp_path)
    offer = source.order(["a.example.com"], reference="a")
    (tmp_path / "orders" / offer.id / "order.json").write_text(json.dumps({"id": offer.id}))
    with pytest.raises(Corrupt):
        source.list_offers()


def test_wrong_settings_are_all_said_at_once() -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_settings({"days": 0, "key_bits": 1024, "colour": "red"})
    assert len(refused.value.problems) == 4
