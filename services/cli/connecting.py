"""Which API a command talks to: the stack that runs in a state directory, or one elsewhere by URL and token."""

from __future__ import annotations

import os
from pathlib import Path

from services.cli.client import ApiClient
from services.cli.embedded.connection import read_connection
from shared.errors import Misconfigured


def api_client(url: str | None, state_dir: Path) -> ApiClient:
    """A client of the Certfleet at ``url``, with the token in ``CERTFLEET_TOKEN``; without a URL of the local stack.

    Raises:
        Misconfigured: the token is missing, or nothing runs there.
    """
    if url is not None:
        token = os.environ.get("CERTFLEET_TOKEN")
        if not token:
            raise Misconfigured(("CERTFLEET_TOKEN is not set; make one with: certfleet tokens create.",))
        return ApiClient(url.rstrip("/"), token)
    connection = read_connection(state_dir)
    if connection is None:
        remedy = "start it with: certfleet up, name another with --state-dir, or give --url and CERTFLEET_TOKEN"
        raise Misconfigured((f"Nothing runs in {state_dir}; {remedy}.",))
    return ApiClient(connection.url, connection.token)
