"""What an embedded Envoy is started with."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from services.cli.embedded.envoy import Balancer, admin_socket, is_serving, program
from services.cli.embedded.layout import SOCKET_PATH_BYTES

pytestmark = pytest.mark.unit


def test_the_bootstrap_has_a_private_admin_socket_and_one_file_of_listeners(tmp_path: Path) -> None:
    balancer = a_balancer(tmp_path)

    command = program(balancer, run=tmp_path).command

    bootstrap = Path(command[command.index("-c") + 1])
    document = json.loads(bootstrap.read_bytes())
    assert document["admin"] == {"address": {"pipe": {"path": str(balancer.admin), "mode": 0o600}}}
    source = document["dynamic_resources"]["lds_config"]["path_config_source"]
    assert source == {"path": str(balancer.listeners)}
    assert "static_resources" not in document
    assert [stat.S_IMODE(path.stat().st_mode) for path in (bootstrap, balancer.listeners)] == [0o600, 0o600]


def test_what_it_served_is_kept(tmp_path: Path) -> None:
    balancer = a_balancer(tmp_path)
    balancer.directory.mkdir()
    balancer.listeners.write_text("precious", encoding="ascii")

    program(balancer, run=tmp_path)

    assert balancer.listeners.read_text(encoding="ascii") == "precious"


@pytest.mark.parametrize(
    ("content", "serving"),
    [
        (None, False),
        ('{"version_info": "0", "resources": []}', False),
        ('{"resources": [{"name": "certfleet"}]}', True),
        ("damaged", True),
        ("[]", True),
    ],
)
def test_a_file_that_cannot_be_read_counts_as_serving(tmp_path: Path, content: str | None, *, serving: bool) -> None:
    if content is not None:
        (tmp_path / "lds.json").write_text(content, encoding="ascii")

    assert is_serving(tmp_path) is serving


def test_a_long_region_name_fits_into_a_socket_of_a_directory_in_the_temporary_one() -> None:
    sockets = Path("/tmp/certfleet-0123456789abcdef")  # noqa: S108 - a name to measure

    assert len(str(admin_socket(sockets, "r" * 64))) <= SOCKET_PATH_BYTES


def a_balancer(place: Path) -> Balancer:
    return Balancer(region="cn-hangzhou", directory=place / "cn-hangzhou", admin=place / "admin.sock")
