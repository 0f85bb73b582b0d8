"""What ends of a certificate: itself, what its chain ends before it, each of a bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.certificates import CertificateType
from shared.domain.deadlines import Deadline, Link, Validity, deadlines

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def link(position: int, *, ends: timedelta) -> Deadline:
    return Deadline(
        validity=Validity(not_before=NOW - 1000 * DAY, not_after=NOW + ends),
        link=Link(position=position, subject=f"CN=CA {position}", fingerprint_sha256=f"{position:064x}"),
    )


def own(*, ends: timedelta) -> Validity:
    return Validity(not_before=NOW - 40 * DAY, not_after=NOW + ends)


def positions(found: tuple[Deadline, ...]) -> list[int]:
    """0 is the certificate itself."""
    return [each.link.position if each.link else 0 for each in found]


def test_an_intermediate_counts_when_it_ends_a_second_before_the_certificate_and_not_when_with_it_or_after() -> None:
    chain = [link(1, ends=90 * DAY - SECOND), link(2, ends=90 * DAY), link(3, ends=90 * DAY + SECOND)]

    assert positions(deadlines(CertificateType.SERVER, own(ends=90 * DAY), chain)) == [1, 0]


def test_each_of_a_bundle_of_cas_counts_also_those_that_outlive_the_first() -> None:
    bundle = [link(1, ends=700 * DAY), link(2, ends=20 * DAY), link(3, ends=90 * DAY)]

    assert positions(deadlines(CertificateType.CA, own(ends=90 * DAY), bundle)) == [2, 0, 1]


@given(
    kind=st.sampled_from(CertificateType),
    ends=st.lists(st.integers(-50, 50), max_size=8),
)
def test_the_first_of_all_is_always_said_and_the_certificates_own_end_too(
    kind: CertificateType, ends: list[int]
) -> None:
    found = deadlines(
        kind, own(ends=timedelta(0)), [link(number + 1, ends=end * DAY) for number, end in enumerate(ends)]
    )

    moments = [each.at for each in found]
    assert moments == sorted(set(moments))
    assert moments[0] == min([NOW, *(NOW + end * DAY for end in ends)])
    assert NOW in moments
