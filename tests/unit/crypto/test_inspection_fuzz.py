from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.crypto.inspection import Inspection, Upload, inspect
from shared.domain.certificates import CertificateType
from tests.support import pki
from tests.support.validation_corpus import DER, EVERY_ALGORITHM, key_der, labelled

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
"""Lone surrogates included: JSON can carry them."""

FRAGMENTS = st.sampled_from(
    [
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "-----BEGIN EC PARAMETERS-----",
        "-----BEGIN X509 CERTIFICATE-----",
        "Proc-Type: 4,ENCRYPTED",
        "MIIB",
        "AAAA",
        "=",
        "\n",
        "\r\n",
        "\\n",
        " ",
        "-",
        "\ufeff",
        "\x00",
    ]
)
PEM_LIKE = st.lists(FRAGMENTS | ANY_TEXT, max_size=40).map("".join)
TYPES = st.sampled_from(CertificateType)

FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def ec_pair() -> tuple[pki.Issued, str]:
    """EC keys are checked in a tenth of a millisecond, so that many mutations fit into a second."""
    issuer = pki.authority("EC Issuing CA", issuer=pki.authority("EC Root CA", key="ec-p256"), key="ec-p256")
    issued = pki.server(issuer=issuer, key="ec-p256")
    return issued, issued.key_pem


def look(certificate: str, key: str | None, *, kind: CertificateType = CertificateType.SERVER) -> Inspection:
    upload = Upload(type=kind, certificate=certificate, private_key=key)
    found = inspect(upload, now=pki.NOW, key_policies=EVERY_ALGORITHM)
    assert found.valid is (found.material is not None)
    if found.material is not None and kind is CertificateType.SERVER:
        assert_pair(found.material.certificate_pem, found.material.private_key_pem or "")
    return found


def assert_pair(certificate: str, key: str) -> None:
    """The first certificate's public key is the private key's, by the library's own word."""
    leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
    assert serialization.load_pem_private_key(key.encode(), None).public_key() == leaf.public_key()


@FAST
@given(certificate=ANY_TEXT | PEM_LIKE, key=st.none() | ANY_TEXT | PEM_LIKE, kind=TYPES)
def test_arbitrary_text_is_answered_and_never_valid(certificate: str, key: str | None, kind: CertificateType) -> None:
    assert not look(certificate, key, kind=kind).valid


@FAST
@given(der=st.binary(max_size=400), label=st.sampled_from(["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY"]))
def test_arbitrary_bytes_in_armour_are_answered_and_never_valid(der: bytes, label: str) -> None:
    text = labelled(label, der)

    assert not look(text, text).valid
    assert not look(text, None, kind=CertificateType.CA).valid


@FAST
@given(data=st.data())
def test_a_changed_leaf_is_valid_only_if_all_that_is_signed_is_unchanged(data: st.DataObject) -> None:
    """What X.509 leaves unsigned is little, such as the count of unused bits before the signature."""
    issued, key = ec_pair()
    der = changed(issued.certificate.public_bytes(DER), data)

    if look(labelled("CERTIFICATE", der) + pki.to_pem(*issued.above), key).valid:
        leaf = x509.load_der_x509_certificate(der)
        assert leaf.tbs_certificate_bytes == issued.certificate.tbs_certificate_bytes
        assert leaf.signature == issued.certificate.signature


@FAST
@given(data=st.data())
def test_a_changed_byte_of_the_key_is_answered(data: st.DataObject) -> None:
    issued, _ = ec_pair()

    look(issued.chain_pem, labelled("PRIVATE KEY", changed(key_der(issued), data)))


@settings(FAST, max_examples=40)
@given(data=st.data())
def test_a_changed_byte_of_an_rsa_key_is_answered(data: st.DataObject) -> None:
    issued = pki.server()

    look(issued.chain_pem, labelled("PRIVATE KEY", changed(key_der(issued), data)))


def changed(der: bytes, data: st.DataObject) -> bytes:
    position = data.draw(st.integers(0, len(der) - 1))
    value = data.draw(st.integers(1, 255))
    return der[:position] + bytes([der[position] ^ value]) + der[position + 1 :]


@FAST
@given(data=st.data())
def test_mutated_text_is_answered(data: st.DataObject) -> None:
    issued, key = ec_pair()
    mutate = data.draw(st.sampled_from([cut, insert, shuffle_lines, drop_line]))

    look(mutate(issued.chain_pem, data), key)
    look(issued.chain_pem, mutate(key, data))
    look(mutate(issued.chain_pem, data), None, kind=CertificateType.CA)


def cut(text: str, data: st.DataObject) -> str:
    return text[: data.draw(st.integers(0, len(text) - 1))]


def insert(text: str, data: st.DataObject) -> str:
    position = data.draw(st.integers(0, len(text)))
    return text[:position] + data.draw(ANY_TEXT | FRAGMENTS) + text[position:]


def shuffle_lines(text: str, data: st.DataObject) -> str:
    return "".join(data.draw(st.permutations(text.splitlines(keepends=True))))


def drop_line(text: str, data: st.DataObject) -> str:
    lines = text.splitlines(keepends=True)
    del lines[data.draw(st.integers(0, len(lines) - 1))]
    return "".join(lines)


@FAST
@given(data=st.data())
def test_what_may_be_repaired_is_repaired_to_the_same_material(data: st.DataObject) -> None:
    issued, key = ec_pair()
    clean = look(issued.chain_pem, key).material
    text = issued.chain_pem
    for repairable in data.draw(st.lists(st.sampled_from(REPAIRABLE), max_size=5)):
        text = repairable(text)

    assert look(text, key).material == clean


REPAIRABLE: list[Callable[[str], str]] = [
    lambda text: "\ufeff" + text.removeprefix("\ufeff"),
    lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\n\n"),
    lambda text: text.replace("\n", " \n\t"),
    lambda text: "# a comment\n" + text,
    lambda text: text + "\n" + text,
    lambda text: text.replace("\n", "\\n"),
]


@FAST
@given(der=st.binary(max_size=200))
def test_binary_in_any_disguise_is_answered(der: bytes) -> None:
    for text in (
        der.decode("latin-1"),
        der.decode("utf-8", "replace"),
        der.decode("utf-8", "surrogateescape"),
        base64.b64encode(der).decode(),
    ):
        assert not look(text, text).valid
