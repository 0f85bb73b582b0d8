"""What people really paste, each input with every code that validation must answer: exactly these, no more."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.crypto.inspection import Upload
from shared.crypto.samples import sample
from shared.domain.certificates import CertificateType
from shared.domain.key_policy import KeyPolicy
from tests.support import pki
from tests.support.pki import DAY, NOW, Issued

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
SECOND = timedelta(seconds=1)
EVERY_ALGORITHM = {
    "everywhere": KeyPolicy(listed=frozenset({"rsa-2048", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448"}))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input. ``codes`` is the exact set of codes; ``lines`` the line of some of them."""

    name: str
    upload: Callable[[], Upload]
    codes: frozenset[str]
    lines: dict[str, int] = field(default_factory=dict)
    policies: dict[str, KeyPolicy] = field(default_factory=dict)
    now: datetime = NOW


def usual() -> Issued:
    return pki.server_with_chain("www.example.test", "example.test")


def pair(certificate: str | None = None, key: str | None = None) -> Upload:
    """The usual server certificate and key, with either replaced."""
    issued = usual()
    return Upload(
        type=CertificateType.SERVER,
        certificate=issued.chain_pem if certificate is None else certificate,
        private_key=issued.key_pem if key is None else key,
    )


def of(issued: Issued) -> Upload:
    return pair(issued.chain_pem, issued.key_pem)


def bundle(*texts: str, key: str | None = None) -> Upload:
    return Upload(type=CertificateType.CA, certificate="".join(texts), private_key=key)


def case(name: str, upload: Callable[[], Upload], *codes: str, **more: int) -> Case:
    """``more`` gives lines: ``pem_damaged=3``."""
    return Case(name=name, upload=upload, codes=frozenset(codes) | frozenset(more), lines=dict(more))


def everywhere(one: Case) -> Case:
    return replace(one, policies=EVERY_ALGORITHM)


def der_of(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(DER)


def key_der(issued: Issued) -> bytes:
    return issued.key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def labelled(label: str, der: bytes, columns: int = 64) -> str:
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[start : start + columns] for start in range(0, len(body), columns))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def latin(der: bytes) -> str:
    return der.decode("latin-1")


def bare(der: bytes) -> str:
    return base64.encodebytes(der).decode()


def request() -> x509.CertificateSigningRequest:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.test")])
    key = pki.private_key()
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())


def revocation_list() -> str:
    issuer = pki.authority()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    crl = builder.last_update(NOW).next_update(NOW + DAY).sign(issuer.key, hashes.SHA256())
    return crl.public_bytes(PEM).decode()


def p7(encoding: serialization.Encoding) -> bytes:
    return pkcs7.serialize_certificates([usual().certificate], encoding)


def p12() -> bytes:
    issued = usual()
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    return pkcs12.serialize_key_and_certificates(
        b"x", issued.key, issued.certificate, None, serialization.NoEncryption()
    )


def openssh() -> str:
    key = pki.private_key()
    return key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()).decode()


def public(format_: serialization.PublicFormat) -> str:
    return pki.private_key().public_key().public_bytes(PEM, format_).decode()


def ssh_line() -> str:
    key = pki.private_key().public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def rsa_with(**changed: int) -> str:
    """The usual key as PKCS#1 with numbers replaced, written without the library, which would refuse."""
    key = pki.private_key()
    assert isinstance(key, rsa.RSAPrivateKey)
    private = key.private_numbers()
    numbers = {
        "version": 0,
        "n": private.public_numbers.n,
        "e": private.public_numbers.e,
        "d": private.d,
        "p": private.p,
        "q": private.q,
        "dmp1": private.dmp1,
        "dmq1": private.dmq1,
        "iqmp": private.iqmp,
        **changed,
    }
    content = b"".join(pki.element(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in numbers.values())
    return labelled("RSA PRIVATE KEY", pki.element(0x30, content))


def private_number(name: str) -> int:
    key = pki.private_key()
    assert isinstance(key, rsa.RSAPrivateKey)
    return int(getattr(key.private_numbers(), name))


def ec_key_with_parameters() -> Upload:
    issued = pki.server(key="ec-p256")
    parameters = labelled("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))
    return pair(issued.pem, parameters + pki.key_pem(issued.key, style="traditional"))


def with_flipped_signature() -> Upload:
    return pair(damaged(usual()) + pki.to_pem(*usual().above))


def with_bad_name() -> Upload:
    """A subjectAltName whose bytes are not ASCII (RFC 5280 §4.2.1.6: IA5String)."""
    issued = pki.server("www.example.test")
    der = pki.edited_der(issued, b"\x82\x10www.example.test", b"\x82\x10ww\xff.example.test")
    return pair(labelled("CERTIFICATE", der), issued.key_pem)


def with_negative_serial() -> Upload:
    der = pki.edited_der(pki.server(serial=0x7F), b"\x02\x01\x7f", b"\x02\x01\xff")
    return pair(labelled("CERTIFICATE", der))


def with_unknown_signature() -> Upload:
    """The outer algorithm, which no signature protects, says something that nobody knows."""
    issued = usual()
    der = der_of(issued)
    at = der.rindex(bytes.fromhex("2a864886f70d01010b"))
    return pair(labelled("CERTIFICATE", der[: at + 8] + b"\x7f" + der[at + 9 :]) + pki.to_pem(*issued.above))


def damaged(issued: Issued) -> str:
    """The certificate with the last bit of its signature flipped."""
    der = der_of(issued)
    return labelled("CERTIFICATE", der[:-1] + bytes([der[-1] ^ 1]))


def subject(*values: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value) for value in values])


def self_issued() -> Upload:
    return of(pki.server(issuer=pki.authority("www.example.test")))


def under(issuer: Issued) -> Issued:
    return pki.server(issuer=issuer)


def intermediate(name: str = "Test Issuing CA", **overrides: object) -> Issued:
    return pki.authority(name, issuer=pki.authority(), **overrides)  # type: ignore[arg-type] # any override at all


def short_lived() -> Upload:
    return of(under_root(not_before=NOW - DAY, not_after=NOW + 5 * DAY))


def with_md5_root() -> Upload:
    root = pki.authority(signature="md5")
    issued = under(pki.authority("Test Issuing CA", issuer=root))
    return pair(issued.chain_pem + root.pem, issued.key_pem)


def renewed() -> Upload:
    """The old and the new certificate of one server, for the same key, in one file."""
    issued = usual()
    return pair(issued.chain_pem + pki.server_with_chain("www.example.test", serial=77).pem, issued.key_pem)


def cut_intermediate(leaf: Issued, key: str) -> Upload:
    """A chain whose second certificate cannot be read."""
    above = pki.to_pem(*leaf.above)
    return pair(leaf.pem + above[: len(above) // 2] + "\n-----END CERTIFICATE-----\n", key)


def under_root(**overrides: object) -> Issued:
    return pki.server(issuer=intermediate(), **overrides)  # type: ignore[arg-type] # any override at all


def self_signed(**overrides: object) -> Issued:
    return pki.server(**overrides)  # type: ignore[arg-type] # any override at all


def cross_signed() -> Upload:
    """One intermediate authority with a certificate from its root and a self-signed one for the same key."""
    crossed = pki.authority("Cross CA", issuer=pki.authority())
    own = pki.authority("Cross CA")
    issued = under(crossed)
    return pair(issued.pem + own.pem + crossed.pem, issued.key_pem)


def twice_crossed() -> Upload:
    first = pki.authority("Cross CA", issuer=pki.authority())
    second = pki.authority("Cross CA", issuer=pki.authority("Other Root CA"))
    issued = under(first)
    return pair(issued.pem + first.pem + second.pem, issued.key_pem)


def path_too_long() -> Upload:
    root = pki.authority()
    upper = pki.authority("Upper CA", issuer=root, path_length=0)
    return of(under(pki.authority("Lower CA", issuer=upper)))


def wrong_twin() -> Upload:
    issued = usual()
    twin = pki.authority("Test Issuing CA", issuer=pki.authority(), number=7, has_key_ids=False)
    return pair(issued.pem + twin.pem)


def wrong_twin_of_other_type() -> Upload:
    issued = usual()
    twin = pki.authority("Test Issuing CA", issuer=pki.authority(), key="ec-p256", has_key_ids=False)
    return pair(issued.pem + twin.pem)


def many_of_one_name() -> Upload:
    name = "Same Name"
    one = pki.authority(name, has_key_ids=False, key="ec-p256")
    others = [pki.authority(name, issuer=one, has_key_ids=False, key="ec-p256", number=3) for _ in range(98)]
    leaf = pki.server(issuer=pki.authority(name, issuer=one, has_key_ids=False))
    return pair(leaf.pem + "".join(other.pem for other in others), leaf.key_pem)


def with_expired_root() -> Upload:
    root = pki.authority(not_before=NOW - 900 * DAY, not_after=NOW - DAY)
    issued = under(pki.authority("Test Issuing CA", issuer=root))
    return pair(issued.chain_pem + root.pem, issued.key_pem)


def leaf_of_root() -> Upload:
    root = pki.authority()
    return pair(under(root).pem + root.pem)


def text(edit: Callable[[str], str]) -> Callable[[], Upload]:
    """The usual certificates with their text edited."""
    return lambda: pair(edit(usual().chain_pem))


def key_text(edit: Callable[[str], str]) -> Callable[[], Upload]:
    return lambda: pair(None, edit(usual().key_pem))


def only(certificate: Callable[[], str]) -> Callable[[], Upload]:
    return lambda: pair(certificate())


def only_key(key: Callable[[], str]) -> Callable[[], Upload]:
    return lambda: pair(None, key())


GOOD = (
    case("leaf and intermediate", pair),
    case("rsa 4096", lambda: of(under_root(key="rsa-4096"))),
    case(
        "three intermediates", lambda: of(under(pki.authority("C", issuer=pki.authority("B", issuer=intermediate()))))
    ),
    case("self-signed leaf", lambda: of(self_signed())),
    case("IP addresses and a wildcard", lambda: of(pki.server("*.example.test", "192.0.2.1", "2001:db8::1"))),
    case("internationalised name", lambda: of(pki.server("xn--bcher-kva.example"))),
    case("common name alone", lambda: of(self_signed(has_names=False))),
    case("no subject at all", lambda: of(self_signed(subject=x509.Name([])))),
    case("neither names nor key ids", lambda: of(self_signed(has_names=False, has_key_ids=False))),
    case("control characters in the common name", lambda: of(self_signed(subject=subject("a\x00b\n\x1b[31m\u202e")))),
    case("two common names", lambda: of(self_signed(subject=subject("first", "second")))),
    case("any extended key usage", lambda: of(self_signed(purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)))),
    case("no extended key usage", lambda: of(self_signed(purposes=()))),
    case("no basic constraints", lambda: of(self_signed(is_ca=None))),
    case("negative serial number", with_negative_serial),
    case("no newline at the end", text(str.rstrip)),
    case("the last valid second of a root's successor", lambda: of(under_root(not_before=NOW))),
    everywhere(case("ec p256", lambda: of(under_root(key="ec-p256")))),
    everywhere(case("ec p384", lambda: of(under_root(key="ec-p384")))),
    everywhere(case("ec p521", lambda: of(under_root(key="ec-p521")))),
    everywhere(case("ed25519", lambda: of(self_signed(key="ed25519")))),
    everywhere(case("ed448", lambda: of(self_signed(key="ed448")))),
    case("one CA certificate", lambda: bundle(pki.authority().pem)),
    case("two CA certificates", lambda: bundle(pki.authority().pem, pki.authority("Another CA").pem)),
    case("an intermediate CA alone", lambda: bundle(intermediate().pem)),
    case("a CA with an empty key field", lambda: bundle(pki.authority().pem, key=" \n")),
)

REPAIRED = (
    case("byte order mark", text(lambda t: "\ufeff" + t), bom_removed=1),
    case("byte order mark read as Latin-1", text(lambda t: "\u00ef\u00bb\u00bf" + t), "bom_removed"),
    case("CR LF", text(lambda t: t.replace("\n", "\r\n")), line_endings_normalized=1),
    case("CR only", key_text(lambda t: t.replace("\n", "\r")), "line_endings_normalized"),
    case(
        "blank line between blocks", text(lambda t: t.replace("-----\n-----", "-----\n\n-----")), "blank_lines_removed"
    ),
    case("blank line inside a block", text(lambda t: t.replace("\n", "\n\n", 1)), blank_lines_removed=2),
    case("blank line at the end", key_text(lambda t: t + "\n"), "blank_lines_removed"),
    case("indented", text(lambda t: t.replace("\n", "\n  ")), "whitespace_removed", "blank_lines_removed"),
    case("spaces at the ends of lines", key_text(lambda t: t.replace("\n", " \n")), whitespace_removed=1),
    case("spaces inside the content", text(lambda t: t.replace("MII", "MI I", 1)), whitespace_removed=2),
    case("non-breaking spaces", text(lambda t: t.replace("\n", "\u00a0\n")), "whitespace_removed"),
    case("text before", text(lambda t: "subject=CN = www\nissuer=CN = ca\n" + t), text_removed=1),
    case("text between", text(lambda t: t.replace("-----\n-----", "-----\nBag Attributes\n-----")), "text_removed"),
    case("text after", key_text(lambda t: t + "the end\n"), "text_removed"),
    case("a header line in a block", text(lambda t: t.replace("\n", "\nComment: mine\n\n", 1)), text_removed=2),
    case("in quotation marks", text(lambda t: f'"{t}"'), "text_removed"),
    case("76 columns", lambda: pair(labelled("CERTIFICATE", der_of(self_signed()), 76)), lines_rewrapped=2),
    case("content on one line", lambda: pair(labelled("CERTIFICATE", der_of(self_signed()), 9999)), lines_rewrapped=2),
    case(
        "everything on one line",
        lambda: pair(self_signed().pem.replace("\n", " ")),
        "lines_rewrapped",
        "whitespace_removed",
    ),
    case("no line break between blocks", text(lambda t: t.replace("-----\n-----", "----------")), lines_rewrapped=20),
    case("backslash n", text(lambda t: t.replace("\n", "\\n")), escaped_newlines_decoded=1),
    case("backslash r backslash n", key_text(lambda t: t.replace("\n", "\\r\\n")), "escaped_newlines_decoded"),
    case("X509 label", text(lambda t: t.replace(" CERT", " X509 CERT")), label_normalized=1),
    case("X.509 label", text(lambda t: t.replace(" CERT", " X.509 CERT")), "label_normalized"),
    case("RSA key as PKCS#8", lambda: pair(None, pki.key_pem(usual().key, style="pkcs8")), private_key_reencoded=1),
    case("RSA PKCS#1 labelled as PKCS#8", key_text(lambda t: t.replace("RSA ", "")), "private_key_reencoded"),
    everywhere(case("EC parameters", ec_key_with_parameters, ec_parameters_removed=1, private_key_reencoded=4)),
    case("the same key in both fields", lambda: pair(usual().chain_pem + usual().key_pem), "extra_blocks_removed"),
    case("certificates in the key field", key_text(lambda t: t + usual().chain_pem), "extra_blocks_removed"),
    case("reversed chain", lambda: pair(pki.to_pem(*usual().above) + usual().pem), chain_out_of_order=1),
    case("chain twice", text(lambda t: t * 2), "duplicate_certificate"),
    case("root included", lambda: pair(usual().chain_pem + pki.authority().pem), "root_included"),
    case("expired root included", with_expired_root, "root_included"),
    case("root alone beside its leaf", leaf_of_root, "root_included"),
    case("cross-signed authority and its own root", cross_signed, "root_included"),
    case("authority with two cross-signatures", twice_crossed, "duplicate_certificate"),
    case(
        "CA certificate twice",
        lambda: bundle(pki.authority(serial=5).pem, pki.authority(serial=5).pem),
        "duplicate_certificate",
    ),
)


NOT_PEM = (
    case("empty", only(lambda: ""), "pem_required"),
    case("blank", only(lambda: " \r\n\t"), "pem_required"),
    case("DER as Latin-1", only(lambda: latin(der_of(usual()))), "pem_required"),
    case("DER with replacement characters", only(lambda: der_of(usual()).decode("utf-8", "replace")), "pem_required"),
    case("DER with lone surrogates", only(lambda: der_of(usual()).decode("utf-8", "surrogateescape")), "pem_required"),
    case("base64 without armour", only(lambda: bare(der_of(usual()))), "pem_required"),
    case("key as DER", only_key(lambda: latin(key_der(usual()))), "pem_required"),
    case("key as bare base64", only_key(lambda: bare(key_der(usual()))), "pem_required"),
    case("PKCS#7 as PEM", only(lambda: p7(PEM).decode()), pem_required=1),
    case("PKCS#7 as DER", only(lambda: latin(p7(DER))), "pem_required"),
    case("PKCS#7 labelled as certificate", only(lambda: labelled("CERTIFICATE", p7(DER))), pem_required=1),
    case("PKCS#12", only(lambda: latin(p12())), "pem_required"),
    case("PKCS#12 as base64", only(lambda: bare(p12())), "pem_required"),
    case("PKCS#12 with replacement characters", only(lambda: p12().decode("utf-8", "replace")), "pem_required"),
    case("request", only(lambda: request().public_bytes(PEM).decode()), pem_required=1),
    case("request as DER", only(lambda: latin(request().public_bytes(DER))), "pem_required"),
    case(
        "request labelled as certificate",
        only(lambda: labelled("CERTIFICATE", request().public_bytes(DER))),
        "pem_required",
    ),
    case("public key", only(lambda: public(serialization.PublicFormat.SubjectPublicKeyInfo)), "pem_required"),
    case("RSA public key", only_key(lambda: public(serialization.PublicFormat.PKCS1)), "pem_required"),
    case("OpenSSH private key", only_key(openssh), "pem_required"),
    case("OpenSSH public key", only(ssh_line), "pem_required"),
    case(
        "SSH2 public key",
        only(lambda: "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----"),
        "pem_required",
    ),
    case("PuTTY key", only_key(lambda: "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none"), "pem_required"),
    case("Java keystore", only(lambda: "\u00fe\u00ed\u00fe\u00ed\x00\x00\x00\x02\x00\x00\x00\x01"), "pem_required"),
    case(
        "Java keystore as base64",
        only(lambda: bare(b"\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01")),
        "pem_required",
    ),
    case("web page", only(lambda: "<!DOCTYPE html><html><body>404</body></html>"), "pem_required"),
    case("PGP key", only_key(lambda: "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxyz"), "pem_required"),
    case("UTF-16", only(lambda: "\x00".join(usual().pem)), "pem_required"),
    case("file name", only(lambda: "/etc/ssl/certs/www.pem"), "pem_required"),
    case("JSON web key", only_key(lambda: '{"kty": "RSA", "n": "xyz"}'), "pem_required"),
    case("prose", only(lambda: "I will send the certificate tomorrow."), "pem_required"),
    case("noise", only(lambda: "\x00\x01\x02\x03\x7f" * 20), "pem_required"),
    case("trusted certificate", text(lambda t: t.replace(" CERT", " TRUSTED CERT")), pem_required=1),
    case("revocation list beside certificates", text(lambda t: t + revocation_list()), "pem_required"),
    case("unknown block beside certificates", text(lambda t: labelled("MYSTERY", b"x") + t), pem_required=1),
    case("fields swapped", lambda: pair(usual().key_pem, usual().chain_pem), pem_required=1),
    case("key in both fields", lambda: pair(usual().key_pem), pem_required=1),
    case("certificate in both fields", lambda: pair(None, usual().chain_pem), pem_required=1),
    case("CA field with a request", lambda: bundle(request().public_bytes(PEM).decode()), pem_required=1),
)

DAMAGED = (
    case("no END at all", only(lambda: self_signed().pem.replace("-----END CERTIFICATE-----\n", "")), pem_damaged=1),
    case("no END of the first", text(lambda t: t.replace("-----END CERTIFICATE-----\n", "", 1)), pem_damaged=1),
    case("no BEGIN", text(lambda t: t.removeprefix("-----BEGIN CERTIFICATE-----\n")), "pem_damaged", "text_removed"),
    case("no BEGIN of the key", key_text(lambda t: t.partition("\n")[2]), "pem_damaged"),
    case("four dashes", key_text(lambda t: t.replace("-----BEGIN", "----BEGIN")), "pem_damaged"),
    case("six dashes", only(lambda: self_signed().pem.replace("-----", "------")), pem_damaged=1),
    case(
        "small letters",
        only(lambda: self_signed().pem.replace("BEGIN CERTIFICATE", "begin certificate")),
        "pem_damaged",
    ),
    case(
        "dashes of a word processor", only(lambda: self_signed().pem.replace("-----", "\u2014\u2014-")), pem_damaged=1
    ),
    case(
        "spaces beside the dashes", only(lambda: self_signed().pem.replace("-----BEGIN", "----- BEGIN")), "pem_damaged"
    ),
    case("another END", key_text(lambda t: t.replace("END RSA", "END EC")), "pem_damaged"),
    case("cut off base64", only(lambda: _without_line(self_signed().pem, -2)), pem_damaged=1),
    case(
        "a character that is not base64", only(lambda: self_signed().pem.replace("MII", "MI\u00fc", 1)), pem_damaged=2
    ),
    case("a quoted mail", only(lambda: self_signed().pem.replace("\n", "\n> ")), pem_damaged=2),
    case("a line lost", only(lambda: _without_line(self_signed().pem, 3)), pem_damaged=1),
    case("an empty block", only(lambda: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), pem_damaged=1),
    case("nonsense in a block", only(lambda: labelled("CERTIFICATE", b"nonsense")), pem_damaged=1),
    case(
        "content after the certificate",
        only(lambda: labelled("CERTIFICATE", der_of(self_signed()) + b"\x00")),
        pem_damaged=1,
    ),
    case(
        "damaged intermediate",
        lambda: pair(usual().pem + labelled("CERTIFICATE", der_of(intermediate())[:-9])),
        "pem_damaged",
    ),
    case("name that is not ASCII", with_bad_name, pem_damaged=1),
    case(
        "second of two CA certificates damaged",
        lambda: bundle(pki.authority().pem, labelled("CERTIFICATE", b"0\x03")),
        "pem_damaged",
    ),
)


def _without_line(pem: str, index: int) -> str:
    lines = pem.splitlines(keepends=True)
    del lines[index]
    return "".join(lines)


DH = labelled("DH PARAMETERS", bytes.fromhex("3006020117020102"))

REFUSED = (
    case("DH parameters beside certificates", text(lambda t: DH + t), dh_parameters_not_supported=1),
    case("DH parameters in the key field", key_text(lambda t: t + DH), "dh_parameters_not_supported"),
    case("DH parameters alone", only(lambda: DH), "dh_parameters_not_supported"),
    case("X9.42 DH parameters", text(lambda t: DH.replace(" DH", " X9.42 DH") + t), "dh_parameters_not_supported"),
    case(
        "cut off DH parameters",
        text(lambda t: t + "-----BEGIN DH PARAMETERS-----\n"),
        "dh_parameters_not_supported",
        "pem_damaged",
    ),
    case("more than a mebibyte", text(lambda t: t + " " * 1024 * 1024), "too_large"),
    case("more than a mebibyte of key", key_text(lambda t: "\u20ac" * 400_000 + t), "too_large"),
    case("101 certificates", text(lambda t: t * 51), "too_large"),
)

KEYS = (
    case("no key", lambda: replace(pair(), private_key=None), "private_key_required"),
    case("blank key", only_key(lambda: " \n"), "private_key_required"),
    case(
        "key in the certificate field only",
        lambda: replace(pair(usual().chain_pem + usual().key_pem), private_key=None),
        "private_key_required",
    ),
    case(
        "nothing but a key",
        lambda: replace(pair(usual().key_pem), private_key=None),
        "private_key_required",
        "pem_required",
    ),
    case(
        "encrypted PKCS#8",
        only_key(lambda: pki.key_pem(usual().key, style="pkcs8", locked_with="pw")),
        private_key_encrypted=1,
    ),
    case(
        "encrypted PKCS#1",
        only_key(lambda: pki.key_pem(usual().key, locked_with="pw")),
        "private_key_encrypted",
    ),
    case("the key twice", key_text(lambda t: t * 2), several_private_keys=28),
    case("two keys", key_text(lambda t: t + pki.key_pem(pki.private_key("rsa-2048", 1))), "several_private_keys"),
    case(
        "the key among the certificates in another encoding",
        lambda: pair(usual().chain_pem + pki.key_pem(usual().key, style="pkcs8")),
        extra_blocks_removed=40,
    ),
    case(
        "another key among the certificates",
        lambda: pair(usual().chain_pem + pki.key_pem(pki.private_key("rsa-2048", 1))),
        "several_private_keys",
    ),
    case("a certificate labelled as a key", only_key(lambda: labelled("PRIVATE KEY", der_of(usual()))), pem_required=1),
    case(
        "an encrypted key labelled as a plain one",
        only_key(
            lambda: pki.key_pem(usual().key, style="pkcs8", locked_with="x").replace("ENCRYPTED PRIVATE", "PRIVATE")
        ),
        private_key_encrypted=1,
    ),
    case(
        "all that is wrong beside an unreadable intermediate",
        lambda: cut_intermediate(
            under_root(key="rsa-1024", not_after=NOW - SECOND), pki.key_pem(pki.private_key("rsa-2048", 1))
        ),
        "key_mismatch",
        "expired",
        "weak_key",
        "pem_damaged",
    ),
    case("key of another pair", only_key(lambda: pki.key_pem(pki.private_key("rsa-2048", 1))), "key_mismatch"),
    case("key of another type", only_key(lambda: pki.key_pem(pki.private_key("ec-p256"))), "key_mismatch"),
    case("key of the intermediate", only_key(lambda: intermediate().key_pem), "key_mismatch"),
    case("cut off key", only_key(lambda: labelled("PRIVATE KEY", key_der(usual())[:-40])), key_damaged=1),
    case("key of nonsense", only_key(lambda: labelled("PRIVATE KEY", b"0\x03abc")), "key_damaged"),
    case("corrupt CRT value", only_key(lambda: rsa_with(iqmp=private_number("iqmp") - 1)), "key_damaged"),
    case("corrupt private exponent", only_key(lambda: rsa_with(d=private_number("d") - 2)), "key_damaged"),
    case("primes that are not the modulus's", only_key(lambda: rsa_with(p=private_number("p") + 2)), "key_damaged"),
    case("even public exponent", only_key(lambda: rsa_with(e=65538)), "key_damaged"),
    case("huge public exponent", only_key(lambda: rsa_with(e=2**2000 + 1)), "key_damaged"),
    case("zero modulus", only_key(lambda: rsa_with(n=0)), "key_damaged"),
    case("huge modulus", only_key(lambda: rsa_with(n=2**16384 + 1)), "key_algorithm_not_supported"),
    case("huge key", only_key(lambda: rsa_with(n=2**90_000 + 1)), "key_algorithm_not_supported"),
    case(
        "DSA key",
        only_key(lambda: pki.key_pem(pki.private_key("dsa-2048"), style="pkcs8")),
        "key_algorithm_not_supported",
    ),
    case(
        "DSA key, traditional",
        only_key(lambda: pki.key_pem(pki.private_key("dsa-2048"), style="traditional")),
        "key_mismatch",
        "private_key_reencoded",
    ),
    case(
        "bad key and bad chain",
        lambda: pair(usual().pem + pki.authority("Stranger").pem, labelled("PRIVATE KEY", b"0")),
        "key_damaged",
        "chain_broken",
        "chain_incomplete",
    ),
    case("EC P-256 under the default policy", lambda: of(self_signed(key="ec-p256")), "key_algorithm_not_supported"),
    case("RSA 3072 under the default policy", lambda: of(self_signed(key="rsa-3072")), "key_algorithm_not_supported"),
    case("secp256k1", lambda: of(self_signed(key="ec-secp256k1")), "key_algorithm_not_supported"),
    case(
        "EC CA under the default policy",
        lambda: bundle(pki.authority(key="ec-p256").pem),
        "key_algorithm_not_supported",
    ),
    everywhere(
        case(
            "RSA 1024 where it is refused",
            lambda: of(self_signed(key="rsa-1024")),
            "key_algorithm_not_supported",
            "weak_key",
        )
    ),
    case("RSA 1024", lambda: of(self_signed(key="rsa-1024")), weak_key=1),
    case("CA with RSA 1024", lambda: bundle(pki.authority(key="rsa-1024").pem), "weak_key"),
    case(
        "the sample",
        lambda: pair(sample("certificate"), sample("private_key")),
        "sample_not_allowed",
        "expired",
        "chain_incomplete",
    ),
    case("the sample CA", lambda: bundle(sample("ca")), "sample_not_allowed", "expired"),
)

CERTIFICATES = (
    case("SHA-1 leaf", lambda: of(under_root(signature="sha1")), weak_signature=1),
    case("SHA-1 self-signed leaf", lambda: of(self_signed(signature="sha1")), "weak_signature"),
    case("MD5 leaf", lambda: of(under_root(signature="md5")), "weak_signature"),
    case("MD2 leaf, whose signature nobody can verify", lambda: of(under_root(signature="md2")), "weak_signature"),
    case("MD2 self-signed leaf", lambda: of(self_signed(signature="md2")), "weak_signature"),
    case("SHA-1 root in a bundle", lambda: bundle(pki.authority(signature="sha1").pem), "weak_signature"),
    case("MD5 root in a bundle", lambda: bundle(pki.authority(signature="md5").pem), "weak_signature"),
    case("MD5 root beside its chain", with_md5_root, "root_included"),
    case("SHA-1 intermediate", lambda: of(under(intermediate(signature="sha1"))), "weak_signature"),
    case("MD5 intermediate CA in a bundle", lambda: bundle(intermediate(signature="md5").pem), "weak_signature"),
    case("leaf in a CA bundle", lambda: bundle(pki.authority().pem, self_signed().pem), "not_a_ca"),
    case("CA without basicConstraints", lambda: bundle(pki.authority(is_ca=None).pem), "not_a_ca"),
    case("CA without keyCertSign", lambda: bundle(pki.authority(may_sign=False).pem), not_a_ca=1),
    case("key with a CA", lambda: bundle(pki.authority().pem, key=pki.authority().key_pem), "private_key_not_allowed"),
    case(
        "key inside a CA's field",
        lambda: bundle(pki.authority().pem, pki.authority().key_pem),
        "private_key_not_allowed",
    ),
    case("nothing but a key in a CA's field", lambda: bundle(pki.authority().key_pem), private_key_not_allowed=1),
    case("CA as server certificate", lambda: of(under_root(is_ca=True)), is_a_ca=1),
    case("self-signed CA as server certificate", lambda: of(self_signed(is_ca=True)), "is_a_ca"),
    case(
        "client certificate as server certificate",
        lambda: of(under_root(purposes=(pki.CLIENT_AUTH,))),
        not_for_server_auth=1,
    ),
)

DATES = (
    case("one second after the end", lambda: of(under_root(not_after=NOW - SECOND)), expired=1),
    case("at the last second", lambda: of(under_root(not_after=NOW)), "expires_soon"),
    case("one second before the beginning", lambda: of(under_root(not_before=NOW + SECOND)), not_yet_valid=1),
    case("at the first second", lambda: of(under_root(not_before=NOW))),
    case("30 days to go", lambda: of(under_root(not_after=NOW + 30 * DAY))),
    case(
        "one second less than 30 days to go", lambda: of(under_root(not_after=NOW + 30 * DAY - SECOND)), "expires_soon"
    ),
    case("a short life that has just begun", short_lived, "expires_soon"),
    case(
        "soon over before it begins",
        lambda: of(under_root(not_before=NOW + DAY, not_after=NOW + 9 * DAY)),
        "not_yet_valid",
        "expires_soon",
    ),
    case("expired CA", lambda: bundle(pki.authority(not_after=NOW - SECOND).pem), "expired"),
    case("CA that expires soon", lambda: bundle(pki.authority(not_after=NOW + DAY).pem), "expires_soon"),
    case("future CA", lambda: bundle(pki.authority(not_before=NOW + DAY).pem), "not_yet_valid"),
    case("expired intermediate", lambda: of(under(intermediate(not_after=NOW - SECOND))), "expired_intermediate"),
    case("intermediate at its last second", lambda: of(under(intermediate(not_after=NOW))), expires_soon=21),
    case("future intermediate", lambda: of(under(intermediate(not_before=NOW + SECOND))), "not_yet_valid"),
)

CHAINS = (
    case("no intermediate", lambda: pair(usual().pem), chain_incomplete=1),
    case("flipped signature", with_flipped_signature, chain_broken=1),
    case("unknown signature algorithm", with_unknown_signature, chain_broken=1),
    case("flipped signature on a self-signed leaf", lambda: pair(damaged(self_signed())), chain_broken=1),
    case("flipped signature on a CA certificate", lambda: bundle(damaged(pki.authority())), chain_broken=1),
    case("self-issued by an earlier key", self_issued, chain_incomplete=1),
    case("wrong intermediate of the right name", wrong_twin, "chain_broken"),
    case("wrong intermediate of the right name and another key type", wrong_twin_of_other_type, "chain_broken"),
    case("two certificates of one server", renewed, chain_broken=40),
    case("stranger in the chain", text(lambda t: t + pki.authority("Stranger").pem), "chain_broken"),
    case(
        "root without the intermediate",
        lambda: pair(usual().pem + pki.authority().pem),
        "chain_broken",
        "chain_incomplete",
    ),
    case("intermediate with CA:FALSE", lambda: of(under(intermediate(is_ca=False))), "chain_broken"),
    case("intermediate without basicConstraints", lambda: of(under(intermediate(is_ca=None))), "chain_broken"),
    case("intermediate without keyCertSign", lambda: of(under(intermediate(may_sign=False))), "chain_broken"),
    case("path too long", path_too_long, "chain_broken"),
    case("a hundred certificates of one name", many_of_one_name, "chain_broken"),
)

CASES = (*GOOD, *REPAIRED, *NOT_PEM, *DAMAGED, *REFUSED, *KEYS, *CERTIFICATES, *DATES, *CHAINS)
