"""A real nginx reads what the directory driver publishes: replaced by a reload, proven by handshakes."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from services.worker.probe import TlsProber
from shared.domain.rollout import ServedState
from shared.domain.served import Client, Expected, Handshake, judge
from shared.usecases.driver import AnomalyKind, Ref
from shared.usecases.proof import knock
from tests.contract.kit_material import ca_material, leaf_of, stage_ca, stage_server
from tests.support.debian import require
from tests.support.nginx import HOST, Nginx

SWAPS: Final = 50
STRANGER: Final = "nobody"
STRANGERS: Final = "nogroup"
"""Debian's user and group that own nothing (base-passwd)."""

pytestmark = pytest.mark.integration


@pytest.fixture
def nginx(place: Path) -> Iterator[Nginx]:
    with Nginx(program=require("nginx"), place=place) as running:
        yield running


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


def test_publishing_alone_changes_nothing_that_clients_see(nginx: Nginx) -> None:
    driver = nginx.driver()
    nginx.configure(stage_server(driver, 1))
    nginx.start()
    for serial in range(2, 6):
        stage_server(driver, serial)
        assert nginx.knock().chain == (leaf_of(1),)
    nginx.reload()
    nginx.shows(1)


def test_clients_of_a_published_ca_are_asked_for_and_everybody_else_gets_a_400(nginx: Nginx) -> None:
    driver = nginx.driver()
    nginx.configure(stage_server(driver, 1), ca=stage_ca(driver))
    nginx.start()
    seen = knock(TlsProber(), nginx.address, [HOST], is_mutual=True)
    assert [(one.client, one.sni, one.status) for one in seen] == [
        (Client.ANONYMOUS, True, 400),
        (Client.FOREIGN, True, 400),
        (Client.ANONYMOUS, False, 400),
    ]
    subject = x509.load_pem_x509_certificate(ca_material().certificate_pem.encode()).subject.rfc4514_string()
    expected = Expected(chain=(leaf_of(1),), client_ca_names=(subject,))
    assert judge(expected, seen).state is ServedState.MATCH


def test_a_listener_that_should_be_mutual_and_is_not_is_found_out(nginx: Nginx) -> None:
    nginx.configure(stage_server(nginx.driver(), 1))
    nginx.start()
    seen = knock(TlsProber(), nginx.address, [HOST], is_mutual=True)
    verdict = judge(Expected(chain=(leaf_of(1),), client_ca_names=("CN=Clients CA 0",)), seen)
    assert verdict.state is ServedState.MISMATCH
    assert verdict.message == f"{HOST}: a client with no certificate got an answer (HTTP 200)."


def test_a_configuration_of_a_certificate_that_is_gone_never_reaches_it(nginx: Nginx) -> None:
    driver = nginx.driver()
    old, new = stage_server(driver, 1), stage_server(driver, 2)
    nginx.configure(old)
    nginx.start()
    driver.retire(new)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        nginx.configure(new)
    assert b"No such file" in refused.value.stderr
    nginx.reload()
    nginx.shows(1)


def test_a_damaged_generation_never_reaches_it_and_staging_again_puts_it_right(nginx: Nginx) -> None:
    driver = nginx.driver()
    old, new = stage_server(driver, 1), stage_server(driver, 2)
    nginx.configure(old)
    nginx.start()
    damaged = nginx.place / "region" / "current" / f"{new.name.label}.key"
    damaged.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(subprocess.CalledProcessError):
        nginx.configure(new)
    assert [one.kind for one in driver.snapshot().anomalies] == [AnomalyKind.ALTERED]
    assert stage_server(driver, 2) == new
    nginx.configure(new)
    nginx.reload()
    nginx.shows(2)


def test_fifty_swaps_lose_no_client_and_show_none_a_wrong_pair(nginx: Nginx) -> None:
    driver = nginx.driver()
    first = stage_server(driver, 1)
    nginx.configure(first)
    nginx.start()
    done = threading.Event()
    with ThreadPoolExecutor(2) as clients:
        reading = [clients.submit(_read, nginx, done) for _ in range(2)]
        try:
            _swap(nginx, first)
        finally:
            done.set()
        seen = [one for each in reading for one in each.result()]
    known = {(leaf_of(serial),) for serial in range(1, SWAPS + 2)}
    assert [one for one in seen if one.status != 200 or one.chain not in known] == []
    assert len({one.chain for one in seen}) > SWAPS / 2
    assert len(driver.snapshot().objects) == 1


def _swap(nginx: Nginx, standing: Ref) -> None:
    driver = nginx.driver()
    for serial in range(2, SWAPS + 2):
        following = stage_server(driver, serial)
        nginx.configure(following)
        nginx.reload()
        nginx.shows(serial)
        driver.retire(standing)
        standing = following


def _read(nginx: Nginx, done: threading.Event) -> list[Handshake]:
    seen = [nginx.knock()]
    while not done.is_set():
        seen.append(nginx.knock())
    return seen


@pytest.fixture
def strangers_place(place: Path) -> Path:
    """Where another user may pass; skipped for those who cannot become another."""
    if os.geteuid() != 0:
        pytest.skip("left out: only root can start nginx as another user")
    place.chmod(0o755)
    return place


def test_an_nginx_without_root_reads_keys_as_a_member_of_the_group(strangers_place: Path) -> None:
    nginx = Nginx(program=require("nginx"), place=strangers_place, user=STRANGER, group=STRANGERS)
    nginx.settings["group"] = STRANGERS
    with nginx:
        driver = nginx.driver()
        nginx.configure(stage_server(driver, 1))
        nginx.start()
        nginx.shows(1)
        nginx.configure(stage_server(driver, 2), ca=stage_ca(driver))
        nginx.reload()
        nginx.shows(2)
        assert driver.snapshot().anomalies == ()


def test_an_nginx_outside_of_the_group_reads_no_key(strangers_place: Path) -> None:
    nginx = Nginx(program=require("nginx"), place=strangers_place, user=STRANGER, group=STRANGERS)
    with nginx:
        server = stage_server(nginx.driver(), 1)
        with pytest.raises(subprocess.CalledProcessError) as refused:
            nginx.configure(server)
    assert b"Permission denied" in refused.value.stderr


def test_a_way_that_is_closed_to_the_group_is_told_before_nginx_stumbles_over_it(strangers_place: Path) -> None:
    strangers_place.chmod(0o700)
    nginx = Nginx(program=require("nginx"), place=strangers_place, settings={"group": STRANGERS})
    driver = nginx.driver()
    stage_server(driver, 1)
    assert [(one.kind, one.subject) for one in driver.snapshot().anomalies] == [
        (AnomalyKind.ACCESS, str(strangers_place))
    ]
