"""Private keys that contradict themselves: each is refused, however well its other numbers agree."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.crypto.keys import PrivateKey, load_private_key
from shared.crypto.pem import Block
from shared.domain.findings import Code, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """RFC 8017 §A.1.2, without the version."""

    n: int
    e: int
    d: int
    p: int
    q: int
    d_p: int
    d_q: int
    q_inv: int


def of_primes(p: int, q: int, *, e: int = 65537) -> Numbers:
    """What a key would be if both were primes."""
    d = pow(e, -1, (p - 1) * (q - 1))
    return Numbers(n=p * q, e=e, d=d, p=p, q=q, d_p=d % (p - 1), d_q=d % (q - 1), q_inv=pow(q, -1, p))


def primes(bits: int = 2048) -> tuple[int, int]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).private_numbers()
    return key.p, key.q


def block(numbers: Numbers) -> Block:
    """PKCS#1, DER."""
    content = b"".join(map(_integer, (0, *astuple(numbers))))
    der = b"\x30" + _length(len(content)) + content
    return Block(label="RSA PRIVATE KEY", der=der, line=1)


def _integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + _length(len(content)) + content


def _length(length: int) -> bytes:
    if length < 128:
        return bytes([length])
    size = (length.bit_length() + 7) // 8
    return bytes([0x80 | size]) + length.to_bytes(size, "big")


def test_a_key_of_two_primes_is_taken() -> None:
    assert isinstance(load_private_key(block(of_primes(*primes()))), PrivateKey)


@pytest.mark.parametrize("number", ["d", "d_p", "d_q", "q_inv"])
def test_a_number_that_is_off_by_two_is_damage(number: str) -> None:
    good = of_primes(*primes())
    found = load_private_key(block(replace(good, **{number: getattr(good, number) - 2})))
    assert isinstance(found, Finding)
    assert found.code == Code.KEY_DAMAGED


@pytest.mark.parametrize("swapped", [False, True])
def test_a_factor_that_is_no_prime_is_damage_though_all_numbers_agree(*, swapped: bool) -> None:
    composite, prime = primes()[0] * primes()[1], primes(4096)[0]
    numbers = of_primes(*((prime, composite) if swapped else (composite, prime)))
    found = load_private_key(block(numbers))
    assert isinstance(found, Finding)
    assert found.code == Code.KEY_DAMAGED


def test_the_two_primes_may_be_in_either_order() -> None:
    p, q = primes()
    assert isinstance(load_private_key(block(of_primes(min(p, q), max(p, q)))), PrivateKey)
