"""A real nginx on loopback, in the foreground, that reads what the directory driver publishes."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from services.worker.drivers.directory import DirectoryDriver
from services.worker.probe import TlsProber
from shared.config.regions import Region
from shared.domain.served import Client, Handshake
from shared.usecases.driver import Ref
from tests.contract.kit_material import leaf_of
from tests.support.envoy import free_port
from tests.support.stack import wait_until

HOST: Final = "shop.example"

_SECONDS: Final = 20
_CONFIGURATION: Final = """
daemon off;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {host};
        ssl_certificate {current}/{server}.pem;
        ssl_certificate_key {current}/{server}.key;
        {clients}
        return 200;
    }}
}}
"""


@dataclass(slots=True, kw_only=True)
class Nginx:
    """One nginx and the region directory that it reads.

    ``user``, ``group``: whose process it is, master and workers; ``None``: ours. ``settings``: more of the driver's.
    ``place`` belongs to the test; what nginx itself writes lies in ``place/work``.
    """

    program: Path
    place: Path
    user: str | None = None
    group: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.work.mkdir()
        if self.user is not None:
            shutil.chown(self.work, self.user)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_SECONDS)

    @property
    def work(self) -> Path:
        return self.place / "work"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def driver(self) -> DirectoryDriver:
        settings = {"path": str(self.place / "region"), **self.settings}
        return DirectoryDriver.for_region(Region(id="here", name="here", driver="directory", settings=settings))

    def configure(self, server: Ref, *, ca: Ref | None = None) -> None:
        """Name the published files; what nginx itself does not take leaves the old configuration where it is.

        Raises:
            subprocess.CalledProcessError: ``nginx -t`` refused it; ``stderr`` says why.
        """
        current = self.place / "region" / "current"
        clients = f"ssl_client_certificate {current}/{ca.name.label}.pem; ssl_verify_client on;" if ca else ""
        following = self.work / "following.conf"
        following.write_text(
            _CONFIGURATION.format(
                work=self.work, port=self.port, host=HOST, current=current, server=server.name.label, clients=clients
            )
        )
        command = [*self._command(following), "-t"]
        subprocess.run(command, check=True, capture_output=True, **self._identity)
        following.replace(self.work / "nginx.conf")

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = self._command(self.work / "nginx.conf")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **self._identity)
        self.wait_for(lambda seen: seen.status is not None)

    def reload(self) -> None:
        """By SIGHUP; it answers nothing, so look."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def knock(self, client: Client = Client.ANONYMOUS) -> Handshake:
        return TlsProber().handshake(self.address, host=HOST, client=client)

    def shows(self, serial: int) -> None:
        """Wait until clients get this certificate."""
        self.wait_for(lambda seen: seen.chain[:1] == (leaf_of(serial),))

    def wait_for(self, is_true: Callable[[Handshake], bool]) -> None:
        wait_until(lambda: is_true(self.knock()), seconds=_SECONDS, otherwise=(self.work / "error.log").read_text)

    def _command(self, configuration: Path) -> list[str]:
        return [str(self.program), "-p", str(self.work), "-e", str(self.work / "error.log"), "-c", str(configuration)]

    @property
    def _identity(self) -> dict[str, Any]:
        """Without the groups of whoever runs the tests."""
        return {"user": self.user, "group": self.group, "extra_groups": []} if self.user else {}
