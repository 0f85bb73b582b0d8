"""The text of ``docs/validation.md``, made from the catalogue of findings."""

from __future__ import annotations

import sys
from typing import Final

from shared.domain.findings import CATALOGUE

CONVERSIONS: Final = (
    ("DER certificate (.cer, .crt)", "openssl x509 -inform der -in certificate.cer -out certificate.pem"),
    ("DER private key", "openssl rsa -traditional -inform der -in key.der -out key.pem"),
    ("PKCS#7 chain (.p7b)", "openssl pkcs7 -print_certs -in chain.p7b -out chain.pem"),
    ("PKCS#12 certificate (.pfx, .p12)", "openssl pkcs12 -in bundle.pfx -nokeys -out cert.pem"),
    ("PKCS#12 key", "openssl pkcs12 -in bundle.pfx -nocerts -nodes | openssl rsa -traditional -out key.pem"),
    ("encrypted RSA key", "openssl rsa -traditional -in encrypted.key -out plain.key"),
    ("PKCS#8 RSA key (done for you)", "openssl rsa -traditional -in pkcs8.key -out pkcs1.key"),
    ("OpenSSH key", "ssh-keygen -p -N '' -m PEM -f id_rsa"),
    (
        "Java keystore (.jks)",
        "keytool -importkeystore -srckeystore store.jks -destkeystore store.p12 -deststoretype PKCS12",
    ),
)
"""From what to PEM. ``-traditional`` matters: without it OpenSSL 3 writes RSA keys as PKCS#8."""


def catalogue_page() -> str:
    """The text of ``docs/validation.md``: ``python -m shared.domain.validation_page > docs/validation.md``."""
    rows = [
        f"| `{e.code}` | {' or '.join(e.severities)} | {e.origin} | {e.meaning} | {_cell(e.remedy)} |"
        for e in CATALOGUE.values()
    ]
    commands = [f"| {what} | `{_cell(command)}` |" for what, command in CONVERSIONS]
    return "\n".join((*_INTRODUCTION, *rows, *_BETWEEN, *commands, *_RULES))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_INTRODUCTION: Final = (
    "# Validation",
    "",
    "<!-- Generated: python -m shared.domain.validation_page > docs/validation.md -->",
    "",
    "Every fault of an upload is reported at once, in `/v1/certificates/validate` and in the job, as",
    "`{code, severity, field, line?, message, hint}`. An **error** stops the job, a **warning** does not, and what is",
    "**fixed** was repaired. Lines count from 1 within the field. The uploaded text itself never goes to a load",
    "balancer: what goes is encoded anew from the parsed content, leaf first, LF, 64 columns, no text, no blank lines.",
    "",
    "| code | severity | decided from | meaning | remedy |",
    "|---|---|---|---|---|",
)
_BETWEEN: Final = ("", "## Conversions", "", "| from | command |", "|---|---|")
_RULES: Final = (
    "",
    "`-traditional` matters: without it OpenSSL 3 writes RSA keys as PKCS#8.",
    "",
    "## Decisions",
    "",
    "* The key policy applies to the key of the server certificate and of every CA certificate of type `ca`:",
    "  both are held and used by the load balancer. Intermediates are only passed on, so it does not apply to them.",
    "* A chain is complete when it reaches at least one issuer beyond the server certificate; the root is left out.",
    "* Dates and the signature of a root that is left out do not matter. `notAfter` is inclusive (RFC 5280 §4.1.2.5).",
    "* `expires_soon` is 30 days whatever the lifetime: a certificate with five days left is said to end soon, also",
    "  when it was made for six. It is a warning.",
    "* `weak_signature` also judges self-signed certificates that are kept: those of type `ca` and a self-signed leaf.",
    "* MD2 and MD4 signatures cannot be verified any more; `weak_signature` refuses them, without `chain_broken`.",
    "* Two server certificates for the same name and key are not a chain: one of them is `chain_broken`.",
    "* A self-signed root that did not issue the chain (leaf and root without what is between) is `chain_broken`, with",
    "  `chain_incomplete` beside it for the issuer that is missing.",
    "* Where a certificate of the chain cannot be read (`pem_damaged`), the server certificate is still judged, and",
    "  the key compared, if it is the key's or is no CA; the chain is not.",
    "* A private key inside the certificate field is never used from there. If the same key is also in `private_key`,",
    "  in whichever encoding, the copy is left out (`extra_blocks_removed`); a different one is",
    "  `several_private_keys`; without a `private_key` it is `private_key_required`; for type `ca` it is",
    "  `private_key_not_allowed`. Two keys in `private_key` are `several_private_keys`, also when they are equal.",
    "* `X509 CERTIFICATE` is the same as `CERTIFICATE` and is accepted. `TRUSTED CERTIFICATE` carries OpenSSL's own",
    "  trust settings, which would be lost, and is refused with the command that converts it.",
    "* CA certificates need not form a chain and keep their order; several are one bundle.",
    "* RSA keys above 4096 bits are examined only where a region's policy allows rsa-8192, and never above that.",
    "* Names are shown with control and invisible characters escaped, so that no certificate can forge a message.",
    "",
)

if __name__ == "__main__":
    sys.stdout.write(catalogue_page())
