from __future__ import annotations

import hashlib
import ssl
import time
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from shared.crypto.inspection import Inspection, Upload, inspect, region_findings
from shared.crypto.samples import sample
from shared.domain.certificates import CertificateType, Material
from shared.domain.findings import CATALOGUE, Finding, Origin, Severity
from shared.domain.key_policy import KeyPolicy
from tests.support import pki
from tests.support.validation_corpus import CASES, CERTIFICATES, KEYS, Case, bundle, of, pair, self_signed, usual

MEBIBYTE = 1024 * 1024


BY_NAME = {case.name: case for case in CASES}


@cache
def named(name: str) -> Inspection:
    case = BY_NAME[name]
    return inspect(case.upload(), now=case.now, key_policies=case.policies)


def inspected(case: Case) -> Inspection:
    return named(case.name)


def codes(inspection: Inspection) -> set[str]:
    return {finding.code for finding in inspection.findings}


def policy(*algorithms: str) -> KeyPolicy:
    return KeyPolicy(listed=frozenset(algorithms))


def only(inspection: Inspection) -> Finding:
    (finding,) = inspection.findings
    return finding


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_input_gets_exactly_its_findings(case: Case) -> None:
    found = inspected(case)

    assert codes(found) == case.codes
    places = {(finding.code, finding.line) for finding in found.findings}
    assert set(case.lines.items()) <= places


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_material_exists_exactly_when_there_is_no_error(case: Case) -> None:
    found = inspected(case)

    assert (found.material is not None) is found.valid
    assert found.valid is all(finding.severity is not Severity.ERROR for finding in found.findings)


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 90
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_code_that_an_upload_can_have_occurs_in_the_corpus() -> None:
    produced = set().union(*(case.codes for case in CASES))

    assert produced == {code for code, entry in CATALOGUE.items() if entry.origin is Origin.UPLOAD}


def test_every_severity_of_every_code_occurs_in_the_corpus() -> None:
    produced = {(finding.code, finding.severity) for case in CASES for finding in inspected(case).findings}

    wanted = {
        (str(entry.code), severity)
        for entry in CATALOGUE.values()
        if entry.origin is Origin.UPLOAD
        for severity in entry.severities
    }
    assert produced == wanted


def test_every_finding_has_a_sentence_and_a_remedy() -> None:
    for case in CASES:
        for finding in inspected(case).findings:
            assert finding.message[-1] in ".!", (case.name, finding)
            assert finding.hint, (case.name, finding)
            assert finding.field in {"certificate", "private_key"}


def test_repairs_leave_nothing_to_repair() -> None:
    for case in CASES:
        material = inspected(case).material
        if material is None:
            continue
        again = inspect(uploaded(material), now=case.now, key_policies=case.policies)
        assert again.material == material, case.name
        assert not [one for one in again.findings if one.severity is Severity.FIXED], case.name


def uploaded(material: Material) -> Upload:
    return Upload(type=material.type, certificate=material.certificate_pem, private_key=material.private_key_pem)


def test_material_is_canonical_pem() -> None:
    for case in CASES:
        material = inspected(case).material
        if material is None:
            continue
        for text in filter(None, (material.certificate_pem, material.private_key_pem)):
            lines = text.split("\n")
            assert lines.pop() == ""
            assert "\r" not in text
            assert all(1 <= len(line) <= 64 and line == line.strip() for line in lines)


def test_material_loads_in_a_tls_server(tmp_path: Path) -> None:
    loaded = 0
    for case in CASES:
        material = inspected(case).material
        if material is not None and material.type is CertificateType.SERVER:
            load_in_tls_server(material, tmp_path)
            loaded += 1
    assert loaded > 50


def load_in_tls_server(material: Material, directory: Path) -> None:
    certificate, key = directory / "chain.pem", directory / "key.pem"
    certificate.write_text(material.certificate_pem)
    key.write_text(material.private_key_pem or "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(certificate, key)


def test_ca_material_loads_as_trust_anchors() -> None:
    material = named("two CA certificates").material
    assert material is not None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=material.certificate_pem)

    assert len(context.get_ca_certs()) == 2


def test_an_rsa_key_goes_out_as_pkcs1_and_others_as_pkcs8() -> None:
    pkcs8 = named("RSA key as PKCS#8").material
    sec1 = named("EC parameters").material

    assert pkcs8 is not None
    assert sec1 is not None
    assert (pkcs8.private_key_pem or "").startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    assert (sec1.private_key_pem or "").startswith("-----BEGIN PRIVATE KEY-----\n")


def test_the_fingerprint_of_a_bundle_covers_all_of_it() -> None:
    one, other = pki.authority(), pki.authority("Another CA")
    single = inspect(bundle(one.pem), now=pki.NOW).material
    both = inspect(bundle(one.pem, other.pem), now=pki.NOW).material

    assert single is not None
    assert both is not None
    assert single.fingerprint_sha256 == one.fingerprint_sha256
    assert both.fingerprint_sha256 != single.fingerprint_sha256


def test_the_facts_are_those_of_the_leaf_although_the_chain_came_reversed() -> None:
    found = named("reversed chain")

    assert found.facts is not None
    assert found.facts.names == ("www.example.test", "example.test")
    assert [facts.common_name for facts in found.chain] == ["www.example.test", "Test Issuing CA"]
    assert found.policed == (found.facts,)


def test_facts_say_what_the_certificate_says() -> None:
    issued = pki.server("www.example.test", "192.0.2.1", serial=0xBEEF)
    facts = inspect(of(issued), now=pki.NOW).facts
    der = issued.certificate.public_bytes(serialization.Encoding.DER)

    assert facts is not None
    assert (facts.common_name, facts.names) == ("www.example.test", ("www.example.test", "192.0.2.1"))
    assert (facts.serial, facts.subject, facts.issuer) == ("beef", "CN=www.example.test", "CN=www.example.test")
    assert facts.fingerprint_sha1 == hashlib.sha1(der, usedforsecurity=False).hexdigest()
    assert facts.fingerprint_sha256 == hashlib.sha256(der).hexdigest()
    assert (facts.not_before, facts.not_after) == (pki.NOW - 90 * pki.DAY, pki.NOW + 275 * pki.DAY)
    assert (facts.key_algorithm, facts.signature_hash) == ("rsa-2048", "sha256")
    assert (facts.is_ca, facts.is_self_signed, facts.for_server_auth) == (False, True, True)


def test_facts_are_given_beside_errors() -> None:
    found = named("one second after the end")

    assert found.material is None
    assert found.facts is not None
    assert found.facts.common_name == "www.example.test"


def test_names_out_of_certificates_carry_no_control_characters() -> None:
    found = named("control characters in the common name")

    assert found.facts is not None
    assert found.facts.common_name == "a\\x00b\\n\\x1b[31m\\u202e"
    assert found.facts.subject.isprintable()


def test_a_message_escapes_a_hostile_name() -> None:
    hostile = self_signed(subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x\nERROR\u202e")]))
    found = inspect(pair(usual().chain_pem + hostile.pem), now=pki.NOW)

    assert codes(found) == {"chain_broken"}
    assert only(found).message.isprintable()
    assert "x\\nERROR" in only(found).message


@pytest.mark.parametrize(
    ("name", "phrase", "command"),
    [
        ("empty", "empty", "Paste"),
        ("DER as Latin-1", "certificate in binary form", "openssl x509 -inform der"),
        ("DER with replacement characters", "certificate in binary form", "openssl x509 -inform der"),
        ("DER with lone surrogates", "certificate in binary form", "openssl x509 -inform der"),
        ("base64 without armour", "certificate in binary form", "openssl x509 -inform der"),
        ("key as DER", "private key in binary form", "openssl rsa -traditional -inform der"),
        ("key as bare base64", "private key in binary form", "openssl rsa -traditional -inform der"),
        ("PKCS#7 as PEM", "PKCS#7", "openssl pkcs7 -print_certs"),
        ("PKCS#7 as DER", "PKCS#7", "openssl pkcs7 -print_certs"),
        ("PKCS#7 labelled as certificate", "PKCS#7", "openssl pkcs7 -print_certs"),
        ("PKCS#12", "PKCS#12", "openssl pkcs12 -in bundle.pfx -nokeys"),
        ("PKCS#12 as base64", "PKCS#12", "openssl pkcs12 -in bundle.pfx -nokeys"),
        ("PKCS#12 with replacement characters", "PKCS#12", "openssl pkcs12 -in bundle.pfx -nokeys"),
        ("request", "signing request", "certificate authority"),
        ("request as DER", "signing request", "certificate authority"),
        ("request labelled as certificate", "signing request", "certificate authority"),
        ("public key", "public key alone", ".key file"),
        ("RSA public key", "public key alone", ".key file"),
        ("OpenSSH private key", "OpenSSH", "ssh-keygen -p"),
        ("OpenSSH public key", "SSH key", "X.509"),
        ("SSH2 public key", "SSH key", "X.509"),
        ("PuTTY key", "PuTTY", "PuTTYgen"),
        ("Java keystore", "Java keystore", "keytool -importkeystore"),
        ("Java keystore as base64", "Java keystore", "keytool -importkeystore"),
        ("web page", "HTML", "download"),
        ("PGP key", "PGP", "X.509"),
        ("UTF-16", "UTF-16", "UTF-8"),
        ("file name", "name of a file", "Paste"),
        ("JSON web key", "JSON", "PEM"),
        ("noise", "binary data", "asn1parse"),
        ("trusted certificate", "TRUSTED CERTIFICATE", "openssl x509 -in trusted.pem"),
        ("revocation list beside certificates", "revocation list", "Upload the certificate"),
    ],
)
def test_a_wrong_format_is_named_with_the_way_out(name: str, phrase: str, command: str) -> None:
    finding = named(name).findings[0]

    assert phrase in finding.message
    assert command in finding.hint


def test_swapped_fields_are_called_swapped_in_both() -> None:
    found = named("fields swapped")

    assert [finding.field for finding in found.findings] == ["certificate", "private_key"]
    assert all("swapped" in finding.message for finding in found.findings)


def test_a_bad_key_and_a_bad_chain_are_reported_together() -> None:
    found = named("bad key and bad chain")

    assert {("key_damaged", "private_key"), ("chain_broken", "certificate")} <= {
        (finding.code, finding.field) for finding in found.findings
    }


def test_the_key_of_an_intermediate_is_recognised() -> None:
    assert "which issued another one" in only(named("key of the intermediate")).message


def test_a_key_of_another_type_is_named() -> None:
    assert "the certificate has rsa-2048, the key is ec-p256" in only(named("key of another type")).message


def test_a_key_policy_error_names_all_regions_of_a_policy_once() -> None:
    narrow, wide = policy("rsa-4096"), policy("rsa-2048")
    policies = {"north": narrow, "south": wide, "west": narrow, "east": policy("ec-p256")}
    found = inspect(pair(), now=pki.NOW, key_policies=policies)

    assert codes(found) == {"key_algorithm_not_supported"}
    assert [finding.field for finding in found.findings] == ["certificate"] * 2
    assert "the regions north, west take only rsa-4096" in found.findings[0].message
    assert "the region east takes only ec-p256" in found.findings[1].message


def test_each_region_is_told_its_own_findings() -> None:
    found = inspect(pair(), now=pki.NOW)
    policies = {"north": policy("rsa-4096"), "south": policy("rsa-2048")}
    by_region = region_findings(found.policed, key_policies=policies)

    assert [finding.code for finding in by_region["north"]] == ["key_algorithm_not_supported"]
    assert by_region["south"] == ()


def test_the_policy_looks_at_every_ca_certificate_but_at_no_intermediate() -> None:
    issuer = pki.authority("EC Issuing CA", issuer=pki.authority(), key="ec-p256")
    served = inspect(of(pki.server(issuer=issuer)), now=pki.NOW)
    trusted = inspect(bundle(pki.authority().pem, issuer.pem), now=pki.NOW)

    assert served.findings == ()
    assert codes(trusted) == {"key_algorithm_not_supported"}


def test_an_rsa_8192_key_is_examined_only_where_a_region_allows_it() -> None:
    case = BY_NAME["huge modulus"]
    usual_limit = named(case.name)
    wide = inspect(case.upload(), now=pki.NOW, key_policies={"lab": policy("rsa-8192", "rsa-2048")})

    assert "has 4096" in only(usual_limit).message
    assert "has 8192" in only(wide).message


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\n" * (MEBIBYTE // 28),
        "-----BEGIN X-----\n" * (MEBIBYTE // 18),
        "-----END X-----\n" * (MEBIBYTE // 16),
        "-" * MEBIBYTE,
        "\n" * MEBIBYTE,
        "\r" * MEBIBYTE,
        "BEGIN " * (MEBIBYTE // 6),
        "-----BEGIN " * (MEBIBYTE // 11),
        "A" * MEBIBYTE,
        " " * MEBIBYTE,
        "-----\\n" * (MEBIBYTE // 7),
        "-----BEGIN CERTIFICATE-----\n" + "A\n" * (MEBIBYTE // 2 - 60) + "-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n" + "A:" * (MEBIBYTE // 2 - 60) + "-----END CERTIFICATE-----\n",
        "\x00" * MEBIBYTE,
        "\u200b" * (MEBIBYTE // 3),
    ],
    ids=range(15),
)
def test_a_mebibyte_of_nonsense_is_answered_soon(text: str) -> None:
    started = time.process_time()
    found = inspect(Upload(type=CertificateType.SERVER, certificate=text, private_key=text), now=pki.NOW)

    assert not found.valid
    assert len(found.findings) <= 50
    assert time.process_time() - started < 10


def test_a_hundred_certificates_of_one_name_are_answered_soon() -> None:
    upload = BY_NAME["a hundred certificates of one name"].upload()
    started = time.process_time()
    inspect(upload, now=pki.NOW)

    assert time.process_time() - started < 10


def test_neither_upload_nor_inspection_shows_content_in_its_repr() -> None:
    upload = pair()
    body = usual().key_pem.splitlines()[3]
    found = inspect(upload, now=pki.NOW)

    assert body not in repr(upload)
    assert body not in repr(found)
    assert usual().pem.splitlines()[3] not in repr(upload)


def test_no_finding_quotes_the_key() -> None:
    for case in KEYS:
        upload = case.upload()
        lines = {line for line in (upload.private_key or "").split("\n") if len(line) > 20 and "-----" not in line}
        said = repr(inspected(case).findings)
        assert not any(line in said for line in lines), case.name


def test_the_samples_are_well_formed_and_useless() -> None:
    found = inspect(pair(sample("certificate"), sample("private_key")), now=pki.NOW)
    trusted = inspect(bundle(sample("ca")), now=pki.NOW)

    assert codes(found) == {"sample_not_allowed", "expired", "chain_incomplete"}
    assert codes(trusted) == {"sample_not_allowed", "expired"}


def test_the_sample_key_is_refused_in_any_certificate() -> None:
    key = serialization.load_pem_private_key(sample("private_key").encode(), None)
    assert isinstance(key, RSAPrivateKey)
    borrowed = pki.server_for(key, "www.example.test")

    assert codes(inspect(of(borrowed), now=pki.NOW)) == {"sample_not_allowed"}


def test_the_same_input_gives_the_same_answer() -> None:
    for case in CERTIFICATES:
        upload = case.upload()
        assert inspect(upload, now=pki.NOW) == inspect(upload, now=pki.NOW)
