"""Names of staged objects: computed from owner and content, safe anywhere, reversible."""

from __future__ import annotations

import dataclasses
import re

import pytest

from shared.domain.certificates import CertificateType
from shared.domain.identifiers import new_id
from shared.usecases.driver import Anomaly, AnomalyKind, ObjectName, Ref, Snapshot, StagedObject
from tests.contract.driver_kit import ca_material, owner, server_material

pytestmark = pytest.mark.unit


def test_a_label_is_type_certificate_and_sixteen_hex_digits() -> None:
    label = ObjectName.of(server_material(), owner(certificate_id="CERT_01ABC")).label
    assert re.fullmatch(r"server-cert_01abc-[0-9a-f]{16}", label)


@pytest.mark.parametrize(
    "certificate_id", ["cert_one", "5f0c-4a-uuid-like", pytest.param(new_id("cert"), id="a fresh id")]
)
def test_a_label_parses_back_to_its_name(certificate_id: str) -> None:
    name = ObjectName.of(ca_material(), owner(certificate_id=certificate_id))
    assert ObjectName.parse(name.label, account_id="acct_one") == name


def test_account_certificate_chain_key_and_type_each_make_another_name() -> None:
    material = server_material()
    names = {
        ObjectName.of(material, owner()).label,
        ObjectName.of(material, owner("acct_two")).label,
        ObjectName.of(material, owner(certificate_id="cert_two")).label,
        ObjectName.of(dataclasses.replace(material, certificate_pem=material.certificate_pem * 2), owner()).label,
        ObjectName.of(dataclasses.replace(material, private_key_pem="another"), owner()).label,
        ObjectName.of(dataclasses.replace(material, type=CertificateType.CA), owner()).label,
    }
    assert len(names) == 6


def test_text_moved_from_one_part_to_the_next_is_another_name() -> None:
    material = server_material()
    assert material.private_key_pem is not None
    joined = dataclasses.replace(
        material, certificate_pem=material.certificate_pem + material.private_key_pem, private_key_pem=None
    )
    assert ObjectName.of(joined, owner()) != ObjectName.of(material, owner())


@pytest.mark.parametrize("identifier", ["", "../etc", "a/b", "a b", "a;del", "UPPER", "-x", "x" * 64, "a\n"])
def test_an_identifier_that_is_not_safe_everywhere_is_refused(identifier: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        ObjectName.of(server_material(), owner(identifier))


@pytest.mark.parametrize("label", ["", "server", "other-cert-0123456789abcdef", "server-cert-0123", "server-cert-XYZ"])
def test_a_foreign_label_is_not_parsed(label: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ObjectName.parse(label, account_id="acct_one")


def test_an_account_sees_only_its_part_of_a_snapshot() -> None:
    objects = tuple(
        StagedObject(ref=Ref(name=name, remote_id=name.label), fingerprint_sha256=None)
        for name in (ObjectName.of(server_material(), owner(account)) for account in ("acct_one", "acct_two"))
    )
    anomalies = tuple(
        Anomaly(kind=AnomalyKind.MISSING, subject="x", message="gone", account_id=account)
        for account in ("acct_one", "acct_two", None)
    )
    part = Snapshot(version="1", objects=objects, anomalies=anomalies).of_account("acct_one")
    assert (part.objects, part.anomalies) == (objects[:1], anomalies[:1])
