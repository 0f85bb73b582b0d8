"""The sample texts of the console's View Sample: well-formed, and useless on purpose.

The sample key is published with this source, so it protects nothing: its certificates expired in 2001, carry
``SAMPLE`` in their names, and validation refuses the key wherever it turns up (``sample_not_allowed``).
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

SampleKind = Literal["certificate", "private_key", "ca"]

SAMPLE_SPKI_SHA256: Final = frozenset(
    {
        "41066e8483efb48669f7f3e005372166f41d29e6f999e16348a359700e58e783",
        "1e8c7e8396e89f33e3a45aae02d1d7112205c477b9eed8caef2d5edb7163abe0",
    }
)
"""SHA-256 of the SubjectPublicKeyInfo of the sample server key and of the sample CA's key."""


def sample(kind: SampleKind) -> str:
    """The PEM text for one field of the form: ``certificate``, ``private_key`` or ``ca``."""
    return _SAMPLES[kind]


def is_sample_key(spki: bytes) -> bool:
    """Whether a public key (SubjectPublicKeyInfo, DER) is one of the samples'."""
    return hashlib.sha256(spki).hexdigest() in SAMPLE_SPKI_SHA256


_CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIDJDCCAgygAwIBAgIBAjANBgkqhkiG9w0BAQsFADAyMRwwGgYDVQQKDBNTQU1Q
TEUgLSBkbyBub3QgdXNlMRIwEAYDVQQDDAlTQU1QTEUgQ0EwHhcNMDAwMTAxMDAw
MDAwWhcNMDEwMTAxMDAwMDAwWjA3MRwwGgYDVQQKDBNTQU1QTEUgLSBkbyBub3Qg
dXNlMRcwFQYDVQQDDA5zYW1wbGUuZXhhbXBsZTCCASIwDQYJKoZIhvcNAQEBBQAD
ggEPADCCAQoCggEBANJi8OurhbEK8qFK4kVhBjKRtj9dy9WCdBCseFyEsCnPD7R+
vyD4AgwozyO/FBTchsm40SwhcIVOFz4TLi7Uj0LoDl4cvg7AMeC29w/X64s30h8Z
aLw4gAH0ZLzsLnLPlaR7U1tLQzjufzNrbdnIpU5r5FyskIIr+CwGS8sKuy3REjSp
CQx9DE8l1igyOCfvfVM+S6QhtkJ8aW3KlEbgiY778rNvrhjoiRmpSPNiJ32eJ0gr
HoOmSsdFtYpgMn4i8WQYHN8b0XNliJuL9re0kRSZsiOzrbHjJAYLhBuIohNlYmen
LbFia8kr4/ro+PwFQpecD5JPQYfYyLrDlx1hPqsCAwEAAaNAMD4wDAYDVR0TAQH/
BAIwADAZBgNVHREEEjAQgg5zYW1wbGUuZXhhbXBsZTATBgNVHSUEDDAKBggrBgEF
BQcDATANBgkqhkiG9w0BAQsFAAOCAQEAWJvRSwDkPHWuRvNcGNeusYsQvtm+OeXJ
J4Fxos3U33BWs9BGS6tFklVQTutu7SWW0FaajqFI5B7arv6jVxsnvWyTxOOR1Gpl
QzSMaPx+3vBWMSTFwnHBIrNk+GIHdM79oRgE0004rxlt0zoD8ddntUpIGDGtaGKp
LPKB7JrMF/pTpscvk2Y6tTzdzKSva7aETT+C5PG5+tdiwdHE/5fEfWXKRjdHDMBh
KgZ6l8/TnBMRK+D0syv/HBQpG83MSCe4Fc68tEPJArEQr32s5hlUswskfr1tTd5o
o1Rvsrxuw+bcZYK8eBcBcu/ixQFAfre4iXzFLZNcQy3L6Zyb8PkR6g==
-----END CERTIFICATE-----
"""

_PRIVATE_KEY: Final = """\
-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEA0mLw66uFsQryoUriRWEGMpG2P13L1YJ0EKx4XISwKc8PtH6/
IPgCDCjPI78UFNyGybjRLCFwhU4XPhMuLtSPQugOXhy+DsAx4Lb3D9frizfSHxlo
vDiAAfRkvOwucs+VpHtTW0tDOO5/M2tt2cilTmvkXKyQgiv4LAZLywq7LdESNKkJ
DH0MTyXWKDI4J+99Uz5LpCG2QnxpbcqURuCJjvvys2+uGOiJGalI82InfZ4nSCse
g6ZKx0W1imAyfiLxZBgc3xvRc2WIm4v2t7SRFJmyI7OtseMkBguEG4iiE2ViZ6ct
sWJrySvj+uj4/AVCl5wPkk9Bh9jIusOXHWE+qwIDAQABAoIBADts7g8rXjJxXLJZ
dAtTygvbo6ZHaK1w0TbqeH7tjdLpZU6+5F68HtvvZP78WIBCACKXfSHheiZ1NdR3
V3qr2KF16aUEqlyBRjVqiOOlQieLR2M4aqCLtwCWVyQT9FTCtMqGeTeWzTCWEUDl
bdxvs92wVQsmRRU3tTw+NQdviwp3+WPiZSWmgcjoBp+gi/6w8o+QkcW6G9TP/H1A
7MSnaDMr9Zllt/L4ekADJDPrbdDo2/4rMerCm/vZ47Lr5cu1kIwjfNhYk1wi6tH9
1Wfwzb8Xmh8reIw1uuD/uZnxw1XvgTIO2iYUcqcv1RQ9fQeHc2VrOzIMzxf5JyCh
vMHSS00CgYEA/wH0+jsG93MU3HS97Rd8HSMo10fcdRiaNz9neKBsO7aB2ozKFq26
673wOB2pYq6fNE5TakT0QHu892zkdPuP6iGsQ0l9I/YtgHtFpVqP8t4qWMjGDj2H
PEdf9MxaIt+NfdINQpRQL1wxTR86ZzqVyTiwGvjtc3x0LwwYKOANEYcCgYEA0zSI
IsJkZRBCrycAjDXk50WNSYNqdFNzK7Lp+HCblMZS58rGWSEPtnqwJlv12y+/8AJa
FcFoumBc3Jx7nODkRYebxoCdQ6apSXMjKlHyA6UHjPufal5VBF5AUc7uXefm+pJv
Bi9r2mxEUPNH1ASnGm9SSInrv+LpT62XxFi1wr0CgYEA8cM0M4yExVL4wy125vHt
/F3aGYgKrYVep+RXv9gv5MjaAY6bBbc90MRpm3obnfA6BcgAc27eNshZViaJzZK2
VV4JSF3C47ZAW2ADnonmkXYppbTreJLCxNZSVe7rwcY6CcB8S9P61XvNTfW+VCIJ
4hT5eQjpbiTercAEo7QPD78CgYBoSUAPKb04ydajdbanhNUJ/SXObr1ZwvrTUPyG
V9P6mhLFsTJPQCvqBpqD1lSHbgRwFjk1FNMJdBtmMz42MDWGv3cDhO4iQWDFi7yJ
YP0HH62ix3vnobyI86D+xBae96rtfvCjNTckGuGAtx94aPO58c3HU5K8pOZfGXAe
206kYQKBgQD81F/+J7CO0gx1ophBIpl36MGVI9ayDnz6+4Sfw8XR1OtiwEcHovdi
/MmcalFv2EiMW2PWpw3YSgIFV9trY4wiQGVzH9B9kccUOGT9CSrnYory6ImKrziL
OUU2YjiI7ePpi5cWZMkHdt4ee3RTgPhpi2NqQgSJf/KIxJmanN6FAg==
-----END RSA PRIVATE KEY-----
"""  # a sample, public by nature

_CA: Final = """\
-----BEGIN CERTIFICATE-----
MIIC8jCCAdqgAwIBAgIBATANBgkqhkiG9w0BAQsFADAyMRwwGgYDVQQKDBNTQU1Q
TEUgLSBkbyBub3QgdXNlMRIwEAYDVQQDDAlTQU1QTEUgQ0EwHhcNMDAwMTAxMDAw
MDAwWhcNMDEwMTAxMDAwMDAwWjAyMRwwGgYDVQQKDBNTQU1QTEUgLSBkbyBub3Qg
dXNlMRIwEAYDVQQDDAlTQU1QTEUgQ0EwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAw
ggEKAoIBAQD396aAvDbGlo4HUjhL9uI/UE0Xc93rhlwBkr/FDbZZ07dKCEoeS7+A
fIqwaP0n7TafQoRWvc8lHF6cDO8KjiIK2zQ3tpE6cFq4OtvGnWkYY7Og/nsw0kCF
jY7XO1BqFZjRkiC7ULjUvHoQIhJ0qEvRcMUMHo8HhV06NYKW5nJ0EDLtIl+hZDCW
taa0guqE0KFze0Qa/uecAE+E/IltlOzcjy6DDOkx1ZlRMIvnyN5USncbt/8hJET/
1AMN5y18sXivsaojDa+TRFjYQGhSlUsMKSmiixzhyrEBAaDX3lLUUoNp6nl3+pQj
C1e1E4GQMJulmBsS/tf+9erp7wj+osKFAgMBAAGjEzARMA8GA1UdEwEB/wQFMAMB
Af8wDQYJKoZIhvcNAQELBQADggEBAMNzgT5Z7HHo58uiP7QYT1dRznQP1h701R6v
xxJrrqGKB6U5mNQ/jGjHJIZBpdOpnci2AG4oEIhyScoID52fCTI7pmln8ISJIl7K
cxSopyOICe29FKtP/CqzWc23RarwkRjhBwg5WqkWrdhj6E0qGK3P4Nool3OEEMsm
1nr/7W41Orj8QKamqjIJSnVkwSQtwlaRlViGuml55lxDb4a5uF5+GELGA/xPP8Em
CfZT97VMo9dL/rQgscgYIy/2ceRs4Cd8RTTVE8BB3f77etcOUwkyXxvMbFR4G8Ci
H2PYGn8GsZbvXAVqfJ3yUN2WwMDR5kZ9xgEj/ZKjeEb/FaYeYFQ=
-----END CERTIFICATE-----
"""

_SAMPLES: Final[dict[SampleKind, str]] = {"certificate": _CERTIFICATE, "private_key": _PRIVATE_KEY, "ca": _CA}
