"""A real nginx reads what the directory driver publishes: replaced by a reload, proven by a handshake."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from services.worker.drivers.directory import DirectoryDriver
from services.worker.probe import TlsProber
from shared.config.regions import Region
from shared.domain.served import Client, Handshake
from shared.usecases.driver import Ref
from tests.contract.kit_material import leaf_of, stage_ca, stage_server
from tests.support.debian import require
from tests.support.envoy import free_port
from tests.support.stack import wait_until

HOST: Final = "shop.example"
_CONFIGURATION: Final = """
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
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

pytestmark = pytest.mark.integration


@dataclass(slots=True, kw_only=True)
class Nginx:
    """One nginx and the directory that it reads."""

    program: str
    place: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def driver(self) -> DirectoryDriver:
        settings = {"path": str(self.place / "region")}
        return DirectoryDriver.for_region(Region(id="here", name="here", driver="directory", settings=settings))

    def configure(self, server: Ref, *, ca: Ref | None = None) -> None:
        """Name the published files, and let nginx itself check them."""
        current = self.place / "region" / "current"
        clients = f"ssl_client_certificate {current}/{ca.name.label}.pem; ssl_verify_client on;" if ca else ""
        text = _CONFIGURATION.format(
            place=self.place, port=self.port, host=HOST, current=current, server=server.name.label, clients=clients
        )
        (self.place / "nginx.conf").write_text(text)
        subprocess.run([*self.command, "-t"], check=True, capture_output=True)

    @property
    def command(self) -> list[str]:
        return [
            self.program,
            "-p",
            str(self.place),
            "-e",
            str(self.place / "error.log"),
            "-c",
            str(self.place / "nginx.conf"),
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        self.wait_for(lambda seen: seen.reached)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def knock(self, client: Client = Client.ANONYMOUS) -> Handshake:
        return TlsProber().handshake(f"127.0.0.1:{self.port}", host=HOST, client=client)

    def shows(self, serial: int) -> None:
        """Wait until clients get this certificate."""
        self.wait_for(lambda seen: seen.chain[:1] == (leaf_of(serial),))

    def wait_for(self, is_true: Callable[[Handshake], bool]) -> None:
        wait_until(lambda: is_true(self.knock()), seconds=20, otherwise=(self.place / "error.log").read_text)


@pytest.fixture
def nginx(place: Path) -> Iterator[Nginx]:
    running = Nginx(program=str(require("nginx")), place=place, port=free_port())
    yield running
    running.stop()


def test_a_replacement_is_served_after_a_reload_and_the_old_one_can_go(nginx: Nginx) -> None:
    driver = nginx.driver()
    old = stage_server(driver, 1)
    nginx.configure(old)
    nginx.start()
    nginx.shows(1)
    new = stage_server(driver, 2)
    nginx.configure(new)
    nginx.reload()
    nginx.shows(2)
    assert driver.retire(old)
    nginx.configure(new)
    nginx.reload()
    assert nginx.knock().status == 200
    assert driver.snapshot().anomalies == ()


def test_it_asks_clients_for_certificates_of_a_published_ca(nginx: Nginx) -> None:
    driver = nginx.driver()
    server, ca = stage_server(driver, 1), stage_ca(driver)
    nginx.configure(server, ca=ca)
    nginx.start()
    for client in Client:
        seen = nginx.knock(client)
        assert (seen.chain[:1], seen.status) == ((leaf_of(1),), 400)
        assert seen.client_ca_names


def test_a_configuration_of_a_certificate_that_is_gone_never_reaches_it(nginx: Nginx) -> None:
    driver = nginx.driver()
    old, new = stage_server(driver, 1), stage_server(driver, 2)
    nginx.configure(old)
    nginx.start()
    driver.retire(new)
    with pytest.raises(subprocess.CalledProcessError):
        nginx.configure(new)
    nginx.shows(1)
