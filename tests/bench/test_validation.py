"""Validations a second, against bare parsing and key match."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.crypto.inspection import Upload, inspect
from shared.domain.certificates import CertificateType
from tests.bench.figures import compare, rate
from tests.support import pki

COUNT = 60


def test_validations_against_bare_cryptography() -> None:
    issued = pki.server_with_chain("bench.example.com")
    upload = Upload(type=CertificateType.SERVER, certificate=issued.chain_pem, private_key=issued.key_pem)

    def ours(_number: int) -> None:
        assert inspect(upload, now=pki.NOW).material is not None

    def bare(_number: int) -> None:
        leaf, *_ = x509.load_pem_x509_certificates(issued.chain_pem.encode())
        key = serialization.load_pem_private_key(issued.key_pem.encode(), None)
        spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert key.public_key().public_bytes(*spki) == leaf.public_key().public_bytes(*spki)

    compare(
        "Validation of a chain of two and an RSA-2048 key, one thread",
        "validations/s",
        ("every rule of docs/validation.md, re-encoded", lambda: rate(COUNT, ours)),
        ("cryptography: parse, load key with its check, match", lambda: rate(COUNT, bare)),
    )
