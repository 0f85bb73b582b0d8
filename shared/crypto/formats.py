"""What a text is when it is not PEM, and how to make PEM of it."""

from __future__ import annotations

import base64
import binascii
import re
from enum import Enum
from typing import Final

_PASTE: Final = "Paste the whole text of the file, from -----BEGIN to the last -----END line."
_ANY_KEY: Final = "for other key types: openssl pkey -in key.der -inform der -out key.pem"


class Format(Enum):
    """A recognised format: what it is called in a sentence, and the remedy."""

    EMPTY = ("empty", _PASTE)
    CERTIFICATE = (
        "a certificate in binary form (DER), or its base64 without BEGIN and END lines",
        "Convert it: openssl x509 -inform der -in certificate.cer -out certificate.pem",
    )
    PRIVATE_KEY = (
        "a private key in binary form (DER), or its base64 without BEGIN and END lines",
        f"Convert it: openssl rsa -traditional -inform der -in key.der -out key.pem ({_ANY_KEY})",
    )
    ENCRYPTED_KEY = (
        "an encrypted private key in binary form (DER)",
        "Convert and decrypt it: openssl pkcs8 -inform der -in key.der -traditional -out key.pem",
    )
    PUBLIC_KEY = (
        "a public key alone",
        (
            "A certificate is more than its public key: take the .pem or .crt file that the authority sent. "
            "The private key is in the .key file."
        ),
    )
    REQUEST = (
        "a certificate signing request (CSR)",
        "Send the request to a certificate authority and upload the certificate that it returns.",
    )
    PKCS7 = (
        "PKCS#7 (.p7b)",
        "Convert it: openssl pkcs7 -print_certs -in chain.p7b -out chain.pem (add -inform der if binary)",
    )
    PKCS12 = (
        "PKCS#12 (.pfx, .p12)",
        (
            "Convert it: openssl pkcs12 -in bundle.pfx -nokeys -out cert.pem; "
            "openssl pkcs12 -in bundle.pfx -nocerts -nodes | openssl rsa -traditional -out key.pem"
        ),
    )
    KEYSTORE = (
        "a Java keystore (JKS)",
        (
            "Convert it: keytool -importkeystore -srckeystore store.jks -destkeystore store.p12 -deststoretype PKCS12; "
            "then openssl pkcs12 -in store.p12 -nokeys -out cert.pem"
        ),
    )
    CRL = ("a certificate revocation list (CRL)", "Upload the certificate instead; revocation lists are not used.")
    TRUSTED = (
        "OpenSSL's TRUSTED CERTIFICATE, which carries trust settings of its own",
        "Convert it: openssl x509 -in trusted.pem -out certificate.pem",
    )
    OPENSSH = ("a key of OpenSSH", "Convert a copy of it: ssh-keygen -p -N '' -m PEM -f id_rsa")
    PUTTY = (
        "a key of PuTTY",
        "Export it with PuTTYgen: Conversions, Export OpenSSH key; then ssh-keygen -p -N '' -m PEM -f key",
    )
    SSH2 = ("an SSH key", "TLS needs an X.509 certificate and its private key; SSH keys are something else.")
    PGP = ("a PGP block", "TLS needs an X.509 certificate and its private key; PGP keys are something else.")
    HTML = ("a web page (HTML)", "Open the page, download the certificate file itself, and paste its text.")
    UTF16 = ("text saved as UTF-16", "Save the file as UTF-8 (plain text) and paste it again.")
    FILE_NAME = ("the name of a file, not its content", _PASTE)
    JSON = ("JSON", "Paste the PEM text itself; a JSON Web Key must be exported as PEM.")
    BINARY = (
        "binary data, not text",
        "Find out what it is: openssl asn1parse -inform der -in FILE. Then convert it to PEM.",
    )
    PARAMETERS = ("parameters, not a certificate or key", "Delete the block from its BEGIN to its END line.")
    UNKNOWN = ("not PEM", _PASTE)

    def __init__(self, phrase: str, remedy: str) -> None:
        self.phrase = phrase
        self.remedy = remedy


_LABELS: Final = {
    "TRUSTED CERTIFICATE": Format.TRUSTED,
    "CERTIFICATE REQUEST": Format.REQUEST,
    "NEW CERTIFICATE REQUEST": Format.REQUEST,
    "PKCS7": Format.PKCS7,
    "CMS": Format.PKCS7,
    "PKCS #7 SIGNED DATA": Format.PKCS7,
    "PKCS12": Format.PKCS12,
    "X509 CRL": Format.CRL,
    "PUBLIC KEY": Format.PUBLIC_KEY,
    "RSA PUBLIC KEY": Format.PUBLIC_KEY,
    "OPENSSH PRIVATE KEY": Format.OPENSSH,
    "SSH2 PUBLIC KEY": Format.SSH2,
    "DSA PARAMETERS": Format.PARAMETERS,
}

_TEXTS: Final = (
    (re.compile(r"PuTTY-User-Key-File"), Format.PUTTY),
    (re.compile(r"---- BEGIN SSH2 |^(?:ssh-|ecdsa-sha2-|sk-ssh-)\S+ AAAA"), Format.SSH2),
    (re.compile(r"-----BEGIN PGP "), Format.PGP),
    (re.compile(r"^<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE), Format.HTML),
    (re.compile(r"^[{\[]"), Format.JSON),
    (
        re.compile(r"^(?:file:|~?/|\./|[A-Za-z]:\\)?[^\s<>]{1,200}\.(?:pem|crt|cer|key|der|p7b|pfx|p12|jks)$"),
        Format.FILE_NAME,
    ),
)

# Bytes from 0x80 are all read as 0x82: that is what survives when binary data has passed through a text decoder that
# replaced them, and it is enough to tell the formats apart by their first elements (X.690 §8.1, RFC 5280, 2986, 5652,
# 7292, 5958, 8017, 5915).
_SEQUENCE: Final = rb"0(?:\x82..|\x82.|[\x00-\x7f])"
_PKCS: Final = rb"\x06\x09\*\x82H\x82\x82\r\x01"
_STRUCTURES: Final = tuple(
    (re.compile(rb"^" + pattern, re.DOTALL), format_)
    for pattern, format_ in (
        (rb"\x82{4}\x00\x00\x00[\x01\x02]", Format.KEYSTORE),
        (_SEQUENCE + rb"\x02\x01\x03" + _SEQUENCE, Format.PKCS12),
        (_SEQUENCE + _PKCS + rb"\x07\x02", Format.PKCS7),
        (_SEQUENCE + rb"\x02\x01[\x00\x01]" + _SEQUENCE + rb"\x06", Format.PRIVATE_KEY),
        (_SEQUENCE + rb"\x02\x01\x00\x02", Format.PRIVATE_KEY),
        (_SEQUENCE + rb"\x02\x01\x01\x04", Format.PRIVATE_KEY),
        (_SEQUENCE + _SEQUENCE + _PKCS + rb"[\x05\x0c]", Format.ENCRYPTED_KEY),
        (_SEQUENCE + _SEQUENCE + rb"\x06", Format.PUBLIC_KEY),
        (_SEQUENCE + _SEQUENCE + rb"\x02\x01\x00" + _SEQUENCE, Format.REQUEST),
        (_SEQUENCE + _SEQUENCE + rb"\x82\x03\x02\x01", Format.CERTIFICATE),
        (_SEQUENCE + _SEQUENCE + rb"\x02.{1,24}" + _SEQUENCE + rb"\x06", Format.CERTIFICATE),
    )
)
_PREFIX: Final = 120
_ASCII: Final = 0x80
_HIGH: Final = 0x82
_FOLD: Final = bytes(value if value < _ASCII else _HIGH for value in range(256))


def of_label(label: str) -> Format:
    """The format that a PEM label other than a certificate's or key's announces."""
    return _LABELS.get(label, Format.PGP if label.startswith("PGP ") else Format.UNKNOWN)


def of_der(der: bytes) -> Format:
    """The format of binary content, by its first elements."""
    head = der[:_PREFIX].translate(_FOLD)
    return next((format_ for pattern, format_ in _STRUCTURES if pattern.match(head)), Format.BINARY)


def of_text(text: str) -> Format:
    """The format of a text in which no PEM block was found. Never raises, whatever the characters."""
    content = text.strip("\ufeff \t\r\n")
    if not content:
        return Format.EMPTY
    if content.count("\x00") * 3 > len(content) and _has_word(content.replace("\x00", "")):
        return Format.UTF16
    named = next((format_ for pattern, format_ in _TEXTS if pattern.search(content[:4096])), None)
    return named or _of_base64(content) or _of_binary(text)


def _has_word(text: str) -> bool:
    return "BEGIN" in text[:4096]


def _of_base64(content: str) -> Format | None:
    try:
        der = base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    found = of_der(der)
    return None if found is Format.BINARY else found


def _of_binary(text: str) -> Format:
    found = of_der(bytes(ord(char) if ord(char) < _ASCII else _HIGH for char in text[:_PREFIX]))
    if found is not Format.BINARY:
        return found
    control = sum(1 for char in text[:_PREFIX] if not char.isprintable() and char not in "\r\n\t")
    return Format.BINARY if control * 8 > len(text[:_PREFIX]) else Format.UNKNOWN
