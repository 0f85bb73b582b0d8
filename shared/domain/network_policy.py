"""Where a webhook may go: the shape of its URL, and which addresses may be dialled for it.

The database of special addresses is written out here instead of asked from ``ipaddress.is_global``: that answer changes
between Python versions and lets multicast, NAT64 and 6to4 forms of private addresses through.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.config.settings import Network
from shared.errors import FieldError, Rejected

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL: Final = 2_048
"""Characters; what every proxy and load balancer on the way takes."""

DENIED_IPV4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # "this network"; Linux dials 0.0.0.0 as loopback
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared address space; holds Alibaba Cloud's metadata service 100.100.100.200
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host agent: public by number, private by nature
            "169.254.0.0/16",  # link-local; holds the metadata service 169.254.169.254
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; holds Oracle Cloud's metadata service 192.0.0.192
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",  # reserved, and the broadcast address
        ),
    )
)
"""IANA IPv4 Special-Purpose Address Registry (RFC 6890), multicast, and cloud vendors' metadata services."""

GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
"""The only global unicast space that IANA has opened (RFC 4291 §2.4); everything outside it is refused."""

DENIED_IPV6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo (which embeds IPv4), ORCHID, benchmarking
            "2001:db8::/32",
            "2002::/16",  # 6to4, which embeds IPv4
            "2620:4f:8000::/48",
            "3ffe::/16",  # the former 6bone
            "3fff::/20",
        ),
    )
)
"""IANA IPv6 Special-Purpose Address Registry, the part inside ``2000::/3``."""

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is really dialled; DNS64 resolvers answer with it."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>[/?][!-~]*)?",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_MAX_NAME: Final = 253
_MAX_PORT: Final = 65_535
_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL taken apart once; what was checked is what is dialled.

    ``host`` is lower case, an IPv6 literal without brackets; ``address`` is set when the host is a literal;
    ``path`` is the request target, from ``/`` on, with the query.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None


def check_url(url: str, allowed_networks: Sequence[Network], *, field: str = "url") -> None:
    """Refuse a URL that can never be delivered to. Names are not resolved here: that is decided at each dial.

    Any port will do: over https a foreign protocol cannot be spoken, and http is only for the operator's own networks.

    Raises:
        Rejected: with one :class:`FieldError` for ``field``: ``invalid_url``, ``https_required`` or
            ``address_not_allowed``.
    """
    target = parse_url(url, field=field)
    if target.address is not None:
        check_address(str(target.address), allowed_networks, scheme=target.scheme, field=field)
    elif not allowed_networks:
        _check_public_name(target, field)


def parse_url(url: str, *, field: str = "url") -> Target:
    """Take a URL apart, strictly: ``http(s)://host[:port][/path][?query]`` in printable ASCII and nothing else.

    Raises:
        Rejected: code ``invalid_url``.
    """
    problem = _shape_problem(url)
    match = None if problem else _URL.fullmatch(url)
    if match is None:
        raise _refused(field, "invalid_url", problem or "is not a URL of the form https://host/path")
    scheme, host = match["scheme"].lower(), match["host"].lower().strip("[]")
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= _MAX_PORT:
        raise _refused(field, "invalid_url", "has a port outside 1 to 65535")
    path = match["target"] or "/"
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        path=path if path.startswith("/") else f"/{path}",
        address=_literal(host, field),
    )


def check_address(address: str, allowed_networks: Sequence[Network], *, scheme: str, field: str = "url") -> None:
    """Refuse an address that must not be dialled with this scheme. Call it with every address a name resolves to.

    The operator's networks win over the lists; only they may be spoken to in clear (``http``).

    Raises:
        Rejected: code ``address_not_allowed`` or ``https_required``.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise _refused(field, "address_not_allowed", "resolves to something that is not an address") from None
    real = _unwrapped(parsed)
    if any(candidate in network for network in allowed_networks for candidate in (parsed, real)):
        return
    if _is_zoned(parsed) or not _is_public(real):
        raise _refused(
            field,
            "address_not_allowed",
            "leads to an address that is private, local or reserved",
            hint="Use a publicly reachable https URL, or ask the operator to allow the network.",
        )
    if scheme != "https":
        raise _https_required(field)


def _shape_problem(url: str) -> str:
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL} characters"
    if not url.isascii() or any(not "!" <= character <= "~" for character in url):
        return "has a space, a control character or a character outside ASCII; write host names as xn--…"
    if "#" in url:
        return "has a fragment (#…), which is never sent"
    if "\\" in url:
        return "has a backslash"
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    if "@" in authority:
        return "carries a user name or password; put a secret into the path or verify our signature"
    return ""


def _literal(host: str, field: str) -> Address | None:
    """The address that the host spells out. Only canonical spellings: 127.1, 0x7f.1 or 2130706433 are refused."""
    labels = host.split(".")
    try:
        if ":" in host:
            return ipaddress.IPv6Address(host)
        if _NUMBER.fullmatch(labels[-1]):
            return ipaddress.IPv4Address(host)
    except ValueError:
        raise _refused(field, "invalid_url", "has a host that is neither a name nor a plain IP address") from None
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(field, "invalid_url", "has a host that is not a valid name")
    return None


def _check_public_name(target: Target, field: str) -> None:
    if "." not in target.host or target.host.endswith(_LOCAL_SUFFIXES):
        raise _refused(
            field,
            "address_not_allowed",
            "names a host that only exists on a local network",
            hint="Use a publicly reachable https URL, or ask the operator to allow the network.",
        )
    if target.scheme != "https":
        raise _https_required(field)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped (RFC 4291 §2.5.5.2) or NAT64 address; others as they are."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_zoned(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in DENIED_IPV4)
    return address in GLOBAL_IPV6 and not any(address in network for network in DENIED_IPV6)


def _https_required(field: str) -> Rejected:
    return _refused(field, "https_required", "is not https", hint="Webhooks leave only over https.")


def _refused(field: str, code: str, problem: str, *, hint: str = "") -> Rejected:
    message = f"The URL {problem}."
    error = FieldError(field=field, code=code, message=message, hint=hint or "Use a URL like https://example.com/hook.")
    return Rejected(message, code=code, errors=(error,))
