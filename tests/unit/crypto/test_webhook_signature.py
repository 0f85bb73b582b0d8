"""Webhook signatures: the specification's vector, the independent package both ways, and every way to be wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.crypto.webhook_signature import SignatureRejected, headers, new_secret, sign, verify

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the published test vector
OTHER: Final = "whsec_" + base64.b64encode(b"b" * 32).decode()
VECTOR_ID: Final = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME: Final = datetime.fromtimestamp(1614265330, UTC)
VECTOR_BODY: Final = b'{"test": 2432232314}'
VECTOR: Final = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
BODY: Final = '{"name":"Zürich"}'.encode()


def signed(*, at: datetime, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> dict[str, str]:
    return headers("evt_1", at, body=body, secrets=secrets)


def check(received: Mapping[str, str], *, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> None:
    verify(body, received, secrets=secrets, now=VECTOR_TIME)


def test_the_signature_is_the_specifications_test_vector() -> None:
    assert sign(VECTOR_ID, VECTOR_TIME, body=VECTOR_BODY, secrets=[SECRET]) == VECTOR


def test_the_vector_verifies() -> None:
    received = {"webhook-id": VECTOR_ID, "webhook-timestamp": "1614265330", "webhook-signature": VECTOR}
    check(received, body=VECTOR_BODY)


def test_the_independent_package_accepts_what_we_sign() -> None:
    secret = new_secret()
    received = signed(at=datetime.now(UTC), secrets=(secret,))
    assert Webhook(secret).verify(BODY, received) == {"name": "Zürich"}


def test_the_independent_package_accepts_either_secret_of_a_rotation() -> None:
    received = signed(at=datetime.now(UTC), secrets=(OTHER, SECRET))
    for secret in (OTHER, SECRET):
        assert Webhook(secret).verify(BODY, received) == {"name": "Zürich"}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, received)


def test_we_accept_what_the_independent_package_signs() -> None:
    theirs = Webhook(SECRET).sign("evt_1", VECTOR_TIME, BODY.decode())
    check({**signed(at=VECTOR_TIME), "webhook-signature": theirs})


def test_the_same_instant_in_another_time_zone_gives_the_same_signature() -> None:
    elsewhere = VECTOR_TIME.astimezone(timezone(timedelta(hours=8)))
    assert signed(at=elsewhere) == signed(at=VECTOR_TIME)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        signed(at=VECTOR_TIME.replace(tzinfo=None))


def test_a_message_id_with_a_full_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="full stop"):
        sign("evt.1", VECTOR_TIME, body=BODY, secrets=[SECRET])


def test_header_names_are_read_in_any_case() -> None:
    check({name.title(): value for name, value in signed(at=VECTOR_TIME).items()})


@pytest.mark.parametrize("seconds", [-300, -299, 0, 299, 300])
def test_a_timestamp_within_five_minutes_is_accepted(seconds: int) -> None:
    check(signed(at=VECTOR_TIME + timedelta(seconds=seconds)))


@pytest.mark.parametrize("seconds", [-86_400, -301, 301, 86_400])
def test_a_timestamp_beyond_five_minutes_is_rejected(seconds: int) -> None:
    with pytest.raises(SignatureRejected, match="too far"):
        check(signed(at=VECTOR_TIME + timedelta(seconds=seconds)))


def test_a_changed_body_id_or_time_is_rejected() -> None:
    good = signed(at=VECTOR_TIME)
    later = str(int(good["webhook-timestamp"]) + 1)
    with pytest.raises(SignatureRejected):
        check(good, body=BODY + b" ")
    for change in ({"webhook-id": "evt_2"}, {"webhook-timestamp": later}):
        with pytest.raises(SignatureRejected):
            check({**good, **change})


def test_another_secret_is_rejected_and_no_secret_rejects_all() -> None:
    for secrets in ((OTHER,), ()):
        with pytest.raises(SignatureRejected):
            check(signed(at=VECTOR_TIME), secrets=secrets)


MALFORMED: Final = {
    "webhook-id": ("", "evt_2", "\udcff", "é"),
    "webhook-timestamp": ("", "soon", "1e9", "-1", "1614265330.0", "１６１４２６５３３０", "9" * 400, "nan"),  # noqa: RUF001 - full-width digits on purpose
    "webhook-signature": (
        "",
        "garbage",
        "v1",
        "v1,",
        ",",
        " ",
        "v1,!!!",
        "v1,\udcff",
        "v2,abc",
        "v1a,abc",
        "v1,a  v1,b",
    ),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MALFORMED.items() for value in values])
def test_a_malformed_header_is_rejected_with_the_one_error(name: str, value: str) -> None:
    with pytest.raises(SignatureRejected):
        check({**signed(at=VECTOR_TIME), name: value})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_rejected(name: str) -> None:
    received = signed(at=VECTOR_TIME)
    del received[name]
    with pytest.raises(SignatureRejected, match="missing"):
        check(received)


@given(
    received=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]),
        st.text(st.characters(exclude_categories=())),
    ),
    body=st.binary(),
)
def test_no_headers_at_all_raise_anything_else(received: dict[str, str], body: bytes) -> None:
    with pytest.raises(SignatureRejected):
        check(received, body=body)


def test_a_good_signature_among_foreign_ones_is_found() -> None:
    good = signed(at=VECTOR_TIME)
    check({**good, "webhook-signature": f"v1a,AAAA v1,AAAA {good['webhook-signature']} v9,x"})


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), "whsec_***", "whsec_" + "A" * 88, "whsec_é"],
)
def test_a_malformed_secret_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^a webhook secret is whsec_ and base64 of 24 to 64 bytes$"):
        sign("evt_1", VECTOR_TIME, body=BODY, secrets=[secret])


def test_new_secrets_differ_and_have_32_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
