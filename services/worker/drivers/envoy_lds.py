"""The listener that Envoy is given (``lds.json``), written from what is bound, and what a listener shows, read back.

One Envoy listener, one filter chain a bound listener, certificates inline (Envoy's "Listener discovery service" and
``envoy.config.listener.v3``). What Envoy does with it:

* It checks a whole file before it takes any of it; a refused one leaves everything as it was.
* When only filter chains differ, the socket stays, and only connections of chains that differ are drained.
* A client without SNI, or with a name that nobody bound, matches no chain: its connection is closed.
* ``*.example.com`` matches names below ``example.com`` at any depth; RFC 9525 §6.3 lets a client accept the certificate
  for one label only. So ``a.b.example.com`` reaches the wildcard's listener, and a careful client then refuses it.
* A request for another host than its connection's is answered 421 (RFC 9110 §15.5.20): otherwise a client could get
  past a mutual listener by asking for its host on a connection to a one-way one.
* A session of one chain is never resumed on another. Mutual chains resume none at all, so that each connection is
  judged by the CA as it is then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.worker.drivers.envoy_settings import Endpoint
from shared.domain.certificates import Material
from shared.usecases.driver import Listener

LISTENER: Final = "certfleet"
"""What the one listener is called in Envoy."""

Json = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy."
_HTTP: Final = "envoy.filters.network.http_connection_manager"
_SHOWN_HOSTS: Final = 3
_WILDCARD: Final = "*."


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One ``lds.json``: its bytes, and the ``version_info`` in it, a digest of the rest."""

    content: bytes = field(repr=False)
    version: str

    @property
    def sha256(self) -> str:
        """Of the bytes, in lower-case hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one filter chain shows to clients, and where (``host:port``); no key."""

    address: str
    hosts: tuple[str, ...]
    certificate_pem: str
    ca_pem: str | None = None
    is_mutual: bool = False


def chain_name(listener: Listener) -> str:
    """The filter chain of a listener: ``<account id>/<listener id>``."""
    return f"{listener.account_id}/{listener.listener_id}"


def render_chain(
    listener: Listener, *, server: Material, ca: Material | None, cluster: str | None, bound: Iterable[Listener]
) -> Json:
    """The filter chain of one listener; ``bound`` are all listeners, for hosts that a wildcard would swallow."""
    return {
        "name": chain_name(listener),
        "filter_chain_match": {"server_names": list(listener.hosts)},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _tls(server, ca)},
        "filters": [{"name": _HTTP, "typed_config": _http(listener, cluster, bound)}],
    }


def render(chains: Iterable[Json], *, bind: Endpoint) -> Offer:
    """The file with these filter chains, in the order of their names; without any, Envoy does not listen."""
    ordered = sorted(chains, key=lambda chain: str(chain["name"]))
    resources = [_listener(ordered, bind)] if ordered else []
    version = hashlib.sha256(_encoded(resources)).hexdigest()[:32]
    return Offer(content=_encoded({"version_info": version, "resources": resources}), version=version)


def resources_of(content: bytes) -> list[Json]:
    """The listeners of a file.

    Raises:
        ValueError: it cannot be read as a list of listeners.
    """
    document = json.loads(content)
    resources = document.get("resources", []) if isinstance(document, dict) else None
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        raise ValueError("it holds something else than listeners")
    return resources


def chains_of(resources: Iterable[Json]) -> dict[str, Json]:
    """The filter chains of listeners by name (``?`` for a nameless one)."""
    return {str(chain.get("name", "?")): chain for _, chain in _chains(resources)}


def address_of(bind: Endpoint) -> str:
    """``host:port``, as :class:`Shown` has it."""
    return f"{bind.host}:{bind.port}"


def is_empty(content: bytes) -> bool:
    """Whether a file gives Envoy nothing to listen on, as an operator's first one does."""
    try:
        document = json.loads(content)
    except ValueError:
        return False
    return isinstance(document, dict) and not document.get("resources")


def shown_by(resources: Iterable[Json]) -> dict[str, Shown | None]:
    """What clients are shown, by chain name; from a file or from Envoy's own dump of its configuration.

    ``None`` for a chain that is not made as ours are.
    """
    return {str(chain.get("name", "?")): _shown(listener, chain) for listener, chain in _chains(resources)}


def _chains(resources: Iterable[Json]) -> Iterator[tuple[Json, Json]]:
    """Each filter chain with its listener; what is no filter chain is passed over."""
    for one in resources:
        chains = one.get("filter_chains")
        for chain in chains if isinstance(chains, list) else ():
            if isinstance(chain, dict):
                yield one, chain


def _encoded(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _listener(chains: Sequence[Json], bind: Endpoint) -> Json:
    inspector = {"@type": f"{_TYPE}extensions.filters.listener.tls_inspector.v3.TlsInspector"}
    return {
        "@type": f"{_TYPE}config.listener.v3.Listener",
        "name": LISTENER,
        "address": {"socket_address": {"address": bind.host, "port_value": bind.port}},
        "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}],
        "filter_chains": list(chains),
    }


def _tls(server: Material, ca: Material | None) -> Json:
    pair = {
        "certificate_chain": {"inline_string": server.certificate_pem},
        "private_key": {"inline_string": server.private_key_pem},
    }
    common: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [pair],
    }
    context: Json = {
        "@type": f"{_TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    }
    if ca is None:
        return context
    common["validation_context"] = {"trusted_ca": {"inline_string": ca.certificate_pem}}
    return context | {
        "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
    }


def _http(listener: Listener, cluster: str | None, bound: Iterable[Listener]) -> Json:
    router = {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"}
    return {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "use_remote_address": True,
        "delayed_close_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": _routes(listener, cluster, bound),
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }


def _routes(listener: Listener, cluster: str | None, bound: Iterable[Listener]) -> Json:
    misdirected = ["*", *_swallowed(listener, bound)]
    return {
        "name": chain_name(listener),
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            _virtual_host("hosts", listener.hosts, _answer(listener, cluster)),
            _virtual_host("misdirected", misdirected, {"direct_response": {"status": 421}}),
        ],
    }


def _swallowed(listener: Listener, bound: Iterable[Listener]) -> list[str]:
    """Hosts of others that a wildcard of this listener matches, too; the more specific domain wins."""
    suffixes = tuple(host[1:] for host in listener.hosts if host.startswith(_WILDCARD))
    others = {host for one in bound for host in one.hosts} - set(listener.hosts)
    return sorted(host for host in others if suffixes and host.endswith(suffixes))


def _virtual_host(name: str, domains: Iterable[str], answer: Json) -> Json:
    return {"name": name, "domains": list(domains), "routes": [{"match": {"prefix": "/"}, **answer}]}


def _answer(listener: Listener, cluster: str | None) -> Json:
    if cluster is not None:
        return {"route": {"cluster": cluster, "timeout": "0s"}}
    more = len(listener.hosts) - _SHOWN_HOSTS
    text = ", ".join(listener.hosts[:_SHOWN_HOSTS]) + (f" and {more} more" if more > 0 else "")
    return {"direct_response": {"status": 200, "body": {"inline_string": f"{text}\n"}}}


def _shown(listener: Json, chain: Json) -> Shown | None:
    try:
        return _read(listener["address"]["socket_address"], chain)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _read(address: Json, chain: Json) -> Shown:
    context = chain["transport_socket"]["typed_config"]
    common = context["common_tls_context"]
    (pair,) = common["tls_certificates"]
    return Shown(
        address=f"{address['address']}:{address['port_value']}",
        hosts=tuple(chain["filter_chain_match"]["server_names"]),
        certificate_pem=pair["certificate_chain"]["inline_string"],
        ca_pem=common.get("validation_context", {}).get("trusted_ca", {}).get("inline_string"),
        is_mutual=bool(context.get("require_client_certificate")),
    )
