"""Requests about listeners, and what they need to be good: certificates in a region of balancers in memory."""

from __future__ import annotations

from typing import Any

from tests.support import pki
from tests.support.api import Api, Client, answer

REGION = "cn-hangzhou"
HOST = "shop.example.com"


def ca(api: Api, **overrides: Any) -> str:
    """A deployed CA certificate; its id."""
    pem = pki.authority("Clients").pem
    certificate = api.deployed(
        **{"type": "ca", "certificate": pem, "private_key": ..., "regions": [REGION], **overrides}
    )
    assert certificate["state"] == "valid", certificate
    return str(certificate["id"])


def server(api: Api) -> str:
    """A deployed certificate of shop.example.com and www.shop.example.com; its id."""
    return str(api.deployed()["id"])


def server_of(api: Api, client: Client, *names: str, regions: tuple[str, ...] = (REGION,)) -> str:
    """A deployed certificate of these names (``HOST``), of this client's account; its id."""
    issued = pki.server_with_chain(*(names or (HOST,)))
    pems = {"certificate": issued.chain_pem, "private_key": issued.key_pem}
    certificate_id = api.submit(client, **pems, regions=list(regions))["certificate"]["id"]
    api.fleet.run()
    return str(certificate_id)


def body(server_id: str, **overrides: Any) -> dict[str, Any]:
    """A good body of POST /v1/listeners; an override of ``...`` leaves the field out."""
    wanted = {"region": REGION, "name": "shop", "hosts": [HOST], "server_certificate_id": server_id, **overrides}
    return {name: value for name, value in wanted.items() if value is not ...}


def bound(api: Api, server_id: str, **overrides: Any) -> dict[str, Any]:
    """A listener after its job."""
    response = api.client.post("/v1/listeners", body(server_id, **overrides))
    assert response.status_code == 202, response.text
    api.fleet.run()
    return show(api.client, answer(response)["listener"]["id"])


def show(client: Client, listener_id: str) -> dict[str, Any]:
    """The listener as it is now."""
    response = client.get(f"/v1/listeners/{listener_id}")
    assert response.status_code == 200, response.text
    return answer(response)
