"""Ed25519 signatures of webhooks (``v1a``): the vector of the specification's repository, and every way to be wrong."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto.webhook_signature import (
    SignatureRejected,
    headers,
    new_private_key,
    new_secret,
    public_key_of,
    sign,
    verify,
)

PRIVATE: Final = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
"""From libraries/go/webhook_asymmetric_test.go of the specification's repository, as the next three."""
VECTOR_ID: Final = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_BODY: Final = b'{"test": 2432232314}'
VECTOR: Final = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
NOW: Final = datetime.fromtimestamp(1614265330, UTC)
PUBLIC: Final = public_key_of(PRIVATE)
BODY: Final = '{"name":"Zürich"}'.encode()


def signed(*secrets: str) -> dict[str, str]:
    return headers("evt_1", NOW, body=BODY, secrets=secrets or (PRIVATE,))


def check(received: dict[str, str], *keys: str, body: bytes = BODY) -> None:
    verify(body, received, secrets=keys or (PUBLIC,), now=NOW)


def test_the_signature_is_the_specifications_test_vector() -> None:
    assert sign(VECTOR_ID, NOW, body=VECTOR_BODY, secrets=[PRIVATE]) == VECTOR


def test_the_vector_verifies_by_the_public_key() -> None:
    received = {"webhook-id": VECTOR_ID, "webhook-timestamp": "1614265330", "webhook-signature": VECTOR}
    check(received, body=VECTOR_BODY)


def test_a_public_key_is_32_bytes_and_says_that_it_is_one() -> None:
    assert PUBLIC.startswith("whpk_")
    assert len(base64.b64decode(PUBLIC.removeprefix("whpk_"))) == 32


def test_new_keys_differ() -> None:
    first, second = new_private_key(), new_private_key()
    assert first.startswith("whsk_")
    assert first != second
    assert public_key_of(first) != public_key_of(second)


def test_a_rotation_from_a_secret_to_a_key_signs_with_both() -> None:
    secret = new_secret()
    received = signed(PRIVATE, secret)
    assert [part.split(",")[0] for part in received["webhook-signature"].split(" ")] == ["v1a", "v1"]
    check(received, PUBLIC)
    check(received, secret)


def test_another_key_body_id_or_time_is_rejected() -> None:
    received = signed()
    with pytest.raises(SignatureRejected):
        check(received, public_key_of(new_private_key()))
    with pytest.raises(SignatureRejected):
        check(received, body=BODY + b" ")
    for change in ({"webhook-id": "evt_2"}, {"webhook-timestamp": "1614265331"}):
        with pytest.raises(SignatureRejected):
            check({**received, **change})


def test_a_signature_of_the_other_scheme_is_rejected() -> None:
    signature = signed()["webhook-signature"].removeprefix("v1a,")
    for disguise in (f"v1,{signature}", f"v2,{signature}", signature, f",{signature}"):
        with pytest.raises(SignatureRejected):
            check({**signed(), "webhook-signature": disguise})


def test_a_public_key_is_no_shared_secret() -> None:
    """Whoever knows the public key must not be able to sign with it as if it were an HMAC secret."""
    forged = "whsec_" + PUBLIC.removeprefix("whpk_")
    with pytest.raises(SignatureRejected):
        check(signed(forged))


@given(signature=st.text(st.characters(exclude_categories=()), max_size=120))
def test_no_signature_at_all_raises_anything_else(signature: str) -> None:
    for offered in (signature, f"v1a,{signature}"):
        with pytest.raises(SignatureRejected):
            check({**signed(), "webhook-signature": offered})


@pytest.mark.parametrize("key", ["whsk_", "whsk_***", "whsk_c2hvcnQ=", "whsk_" + "A" * 88, "whsk_é"])
def test_a_malformed_private_key_is_refused_without_being_quoted(key: str) -> None:
    with pytest.raises(ValueError, match=r"^an Ed25519 webhook key is whsk_ and base64 of 32 bytes$"):
        sign("evt_1", NOW, body=BODY, secrets=[key])


def test_a_malformed_public_key_is_ours_to_mend_not_the_senders() -> None:
    with pytest.raises(ValueError, match="whpk_"):
        check(signed(), "whpk_c2hvcnQ=")
