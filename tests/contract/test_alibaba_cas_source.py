"""The Certificate Management Service's adapter passes the contract suite, signs as it must, and leaks nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.worker.sources.alibaba_cas import AlibabaCas, parse_gateway
from services.worker.sources.alibaba_rpc import Credentials, Gateway, signed_headers
from shared.errors import (
    AuthRefused,
    Busy,
    Corrupt,
    DriverError,
    Misconfigured,
    NotOffered,
    NotRenewable,
    OutcomeUnknown,
    QuotaExceeded,
    Unreachable,
)
from tests.contract.source_kit import NAMES, ServiceUnderTest, SourceContract
from tests.support import pki
from tests.support.cas import KEY_ID, SECRET, Cas, running_cas
from tests.support.dripping import dripping
from tests.support.memory_sources import certificate_service, moment

RENEW = "RenewCertificateOrderForPackageRequest"


@pytest.fixture
def cas(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cas]:
    monkeypatch.setenv("CAS_SECRET", SECRET)
    with running_cas(moment(pki.NOW)) as running:
        yield running


def source_for(cas: Cas, **settings: Any) -> AlibabaCas:
    return AlibabaCas(parse_gateway(cas.service(**settings), clock=moment(pki.NOW)))


class TestAlibabaCas(SourceContract):
    @pytest.fixture
    def service(self, cas: Cas) -> ServiceUnderTest:
        for name in NAMES:
            cas.issue(name)
        return ServiceUnderTest(new_source=lambda: source_for(cas), issue=cas.issue_ordered)


def test_a_call_is_signed_as_in_the_published_example() -> None:
    """Alibaba Cloud, "V3 request structure and signature": RunInstances, with its keys, moment and nonce."""
    gateway = Gateway(
        host="ecs.cn-shanghai.aliyuncs.com",
        version="2014-05-26",
        credentials=Credentials(access_key_id="YourAccessKeyId", access_key_secret="YourAccessKeySecret"),  # noqa: S106 - the example's
        timeout=timedelta(seconds=1),
        clock=moment(datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC)),
    )
    query = "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
    headers = signed_headers(gateway, "RunInstances", b"", nonce="3156853299f313e23d1673dc12e1703d", query=query)
    assert headers["authorization"].endswith(
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


def test_everything_is_in_the_body_and_the_secret_is_nowhere(cas: Cas) -> None:
    number = cas.issue("shop.example.com")
    source = source_for(cas)
    source.list_offers(search="shop")
    source.fetch(str(number))
    assert {line for _, line, _ in cas.requests} == {"POST / HTTP/1.1"}
    assert cas.requests[1][2] == f"CertId={number}".encode()
    assert not any(SECRET.encode() in body for _, _, body in cas.requests)
    assert SECRET not in repr(source._gateway)  # noqa: SLF001 - what a traceback's locals would show


def test_a_temporary_key_is_sent_with_its_token_signed(cas: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_TOKEN", "sts-token")
    cas.issue("shop.example.com")
    source = source_for(cas, security_token={"env": "CAS_TOKEN"})
    assert len(source.list_offers().offers) == 1


def test_a_wrong_secret_is_refused_and_says_what_to_check(cas: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_SECRET", "another")
    with pytest.raises(AuthRefused, match="SignatureDoesNotMatch") as refused:
        source_for(cas).list_offers()
    assert "access key" in refused.value.hint


def test_a_clock_that_is_wrong_is_said_to_be_so(cas: Cas) -> None:
    source = AlibabaCas(parse_gateway(cas.service(), clock=moment(pki.NOW + timedelta(hours=1))))
    with pytest.raises(AuthRefused, match=r"InvalidTimeStamp\.Expired"):
        source.list_offers()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "Throttling.User", Busy),
        (503, "ServiceUnavailable", Busy),
        (449, "SystemBusy", Busy),
        (403, "Forbidden.RAM", AuthRefused),
        (403, "Forbbiden.SubUser", AuthRefused),
        (404, "InvalidAccessKeyId.NotFound", AuthRefused),
        (500, "InternalError", Unreachable),
        (404, "NotFound", NotOffered),
    ],
)
def test_a_refusal_is_known_by_its_code_and_its_words_stay_out(
    cas: Cas, status: int, code: str, kind: type[DriverError]
) -> None:
    number = cas.issue("shop.example.com")
    cas.answer_next("GetUserCertificateDetail", status=status, code=code)
    with pytest.raises(kind, match=code) as refused:
        source_for(cas).fetch(str(number))
    assert SECRET[:4] not in str(refused.value)


UNREADABLE = (b"<html>", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 9_000 + b"}")


@pytest.mark.parametrize("body", [*UNREADABLE, b'{"CertificateOrderList": 7}', b'{"CertificateOrderList": [{}]}'])
def test_an_answer_that_cannot_be_is_said_to_be_so(cas: Cas, body: bytes) -> None:
    cas.answer_next("ListUserCertificateOrder", status=200, body=body)
    with pytest.raises(Corrupt):
        source_for(cas).list_offers()


@pytest.mark.parametrize("body", UNREADABLE)
def test_an_order_whose_answer_cannot_be_read_may_have_been_placed(cas: Cas, body: bytes) -> None:
    number = cas.issue("shop.example.com")
    cas.answer_next("RenewCertificateOrderForPackageRequest", status=200, body=body)
    with pytest.raises(OutcomeUnknown):
        source_for(cas).renew(str(number), reference="r1")


@pytest.mark.parametrize("end", ["9" * 400, "-" + "9" * 400, "1e400", '"soon"', "true", "null", "[]"])
def test_an_end_that_is_no_time_is_said_to_be_none(cas: Cas, end: str) -> None:
    body = f'{{"Common": "shop.example.com", "Sans": "shop.example.com", "OrderId": 7, "NotAfter": {end}}}'
    cas.answer_next("GetUserCertificateDetail", status=200, body=body.encode())
    with pytest.raises(Corrupt):
        source_for(cas).find_renewal("10000001", reference="r1")


def test_a_list_for_one_name_that_never_ends_is_given_up(cas: Cas) -> None:
    number = cas.issue("shop.example.com")
    page = {"CertificateOrderList": [{"CertificateId": 7, "CommonName": "other.example.com"}], "TotalCount": 10**9}
    for _ in range(5_000):
        cas.answer_next("ListUserCertificateOrder", status=200, body=json.dumps(page).encode())
    source = AlibabaCas(parse_gateway(cas.service(), clock=moment(pki.NOW)), search_patience=timedelta(seconds=0.3))
    with pytest.raises(Busy, match="has not ended"):
        source.find_renewal(str(number), reference="r1")


def test_an_answer_whose_head_never_ends_is_given_up(cas: Cas) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nX-Header: ") as port:
        cas.address = f"127.0.0.1:{port}"
        gateway = replace(parse_gateway(cas.service()), timeout=timedelta(seconds=0.3))
        with pytest.raises(Unreachable):
            AlibabaCas(gateway).list_offers()


def test_without_a_connection_nothing_was_changed(cas: Cas) -> None:
    number = cas.issue("shop.example.com")
    source = source_for(cas)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        cas.address = f"127.0.0.1:{closed.getsockname()[1]}"
        away = source_for(cas)
        with pytest.raises(Unreachable):
            away.renew(str(number), reference="r")
    assert source.find_renewal(str(number), reference="r") is None


def test_a_lost_order_is_unknown_and_is_found_before_another_is_placed(cas: Cas) -> None:
    number = cas.issue("shop.example.com")
    source = source_for(cas)
    cas.answer_next(RENEW, lose=True)
    with pytest.raises(OutcomeUnknown):
        source.renew(str(number), reference="r")
    assert source.renew(str(number), reference="r").offer_id is None
    cas.issue_ordered()
    found = source.find_renewal(str(number), reference="r")
    assert found is not None
    assert found.offer_id == "10000002"
    assert cas.ordered == 1


def test_a_lost_read_is_only_unreachable(cas: Cas) -> None:
    cas.answer_next("ListUserCertificateOrder", lose=True)
    with pytest.raises(Unreachable):
        source_for(cas).list_offers()


def test_what_was_renewed_by_hand_is_found_and_nothing_is_ordered(cas: Cas) -> None:
    old = cas.issue("shop.example.com")
    new = cas.issue("shop.example.com", life=timedelta(days=365))
    assert source_for(cas).renew(str(old), reference="r").offer_id == str(new)
    assert cas.ordered == 0


def test_a_later_one_for_other_names_or_uploaded_is_no_renewal(cas: Cas) -> None:
    old = cas.issue("shop.example.com")
    cas.issue("shop.example.com", "www.shop.example.com", life=timedelta(days=365))
    cas.issue("shop.example.com", life=timedelta(days=365), is_uploaded=True)
    assert source_for(cas).find_renewal(str(old), reference="r") is None


def test_what_was_uploaded_there_or_is_not_expiring_is_not_renewed(cas: Cas) -> None:
    source = source_for(cas)
    with pytest.raises(NotRenewable, match="uploaded"):
        source.renew(str(cas.issue("a.example.com", is_uploaded=True)), reference="r")
    with pytest.raises(NotRenewable, match="OrderNotExpiring") as refused:
        source.renew(str(cas.issue("b.example.com", life=timedelta(days=90))), reference="r")
    assert "30 days" in refused.value.hint


def test_nothing_left_to_renew_from_is_a_quota(cas: Cas) -> None:
    number = cas.issue("shop.example.com")
    cas.answer_next(RENEW, status=400, code="PackageNotEnough")
    with pytest.raises(QuotaExceeded):
        source_for(cas).renew(str(number), reference="r")


def test_a_key_that_is_not_given_away_is_not_offered(cas: Cas) -> None:
    number = cas.issue("shop.example.com", is_uploaded=True, gives_key=False)
    with pytest.raises(NotOffered, match="key"):
        source_for(cas).fetch(str(number))


def test_wrong_settings_are_all_said_at_once_and_no_secret_is_quoted() -> None:
    settings = {"endpoint": "http://cas.aliyuncs.com", "timeout_seconds": 60, "colour": "red", "access_key_id": ""}
    with pytest.raises(Misconfigured) as refused:
        parse_gateway(certificate_service("cas", settings=settings))
    assert len(refused.value.problems) == 5


def test_the_default_endpoint_is_spoken_to_by_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_SECRET", SECRET)
    settings = {"access_key_id": KEY_ID, "access_key_secret": {"env": "CAS_SECRET"}}
    gateway = parse_gateway(certificate_service("cas", settings=settings))
    assert (gateway.host, gateway.is_plain) == ("cas.aliyuncs.com", False)
