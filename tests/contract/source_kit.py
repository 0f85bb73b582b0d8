"""The acceptance test of every source: subclass ``SourceContract``, say how to build yours, run pytest.

::

    class TestMySource(SourceContract):
        @pytest.fixture
        def service(self, my_service: MyService) -> ServiceUnderTest:
            ...   # a fresh service that offers ``NAMES`` and can issue what is ordered

What every test wants is in the docstrings of ``shared/usecases/source.py``; this page for people: ``docs/sources.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from shared.crypto.inspection import Upload, inspect
from shared.domain.certificates import CertificateType
from shared.errors import DriverError, NotOffered
from shared.usecases.source import Content, Offer, Source

NAMES: Final = ("shop.example.com", "www.example.com", "api.example.org")
"""Each is the first name of one certificate that the service offers when a test begins."""

CONCURRENT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnderTest:
    """How to build one more source for the same service, and what makes the service issue what was ordered."""

    new_source: Callable[[], Source]
    issue: Callable[[], None] = lambda: None


class SourceContract:
    """Obligations of every source."""

    @pytest.fixture
    def service(self) -> ServiceUnderTest:
        raise NotImplementedError

    @pytest.fixture
    def source(self, service: ServiceUnderTest) -> Source:
        return service.new_source()

    def test_it_is_a_source_whose_capabilities_are_constant(self, service: ServiceUnderTest) -> None:
        source = service.new_source()
        assert isinstance(source, Source)
        assert source.capabilities == service.new_source().capabilities
        assert source.capabilities.page_size >= 1

    def test_it_lists_what_it_offers_with_names_and_end(self, source: Source) -> None:
        offers = all_offers(source)
        assert {offer.common_name for offer in offers} == set(NAMES)
        assert len({offer.id for offer in offers}) == len(NAMES)
        assert all(offer.common_name in offer.names for offer in offers)
        assert all(offer.not_after is not None for offer in offers)

    def test_pages_hold_each_offer_once(self, source: Source) -> None:
        assert [offer.id for offer in all_offers(source, limit=1)] == [offer.id for offer in all_offers(source)]

    def test_a_search_finds_by_a_name_and_nothing_else(self, source: Source) -> None:
        found = source.list_offers(search=NAMES[1]).offers
        assert [offer.common_name for offer in found] == [NAMES[1]]
        assert source.list_offers(search="absent.example.net").offers == ()

    def test_what_is_fetched_is_the_offer_with_its_key(self, source: Source) -> None:
        for offer in all_offers(source):
            content = source.fetch(offer.id)
            leaf = leaf_of(content)
            assert key_spki(content) == spki(leaf)
            assert offer.fingerprint_sha256 in (None, leaf.fingerprint(hashes.SHA256()).hex())
            assert offer.not_after is not None
            assert abs((leaf.not_valid_after_utc - offer.not_after).total_seconds()) <= 24 * 3600  # some tell days

    def test_what_is_fetched_is_the_same_for_ever(self, service: ServiceUnderTest, source: Source) -> None:
        offer = first_offer(source)
        assert source.fetch(offer.id) == service.new_source().fetch(offer.id)

    def test_what_is_fetched_passes_validation(self, source: Source) -> None:
        content = source.fetch(first_offer(source).id)
        upload = Upload(
            type=CertificateType.SERVER, certificate=content.certificate_pem, private_key=content.private_key_pem
        )
        now = leaf_of(content).not_valid_before_utc
        report = inspect(upload, now=now, key_policies={})
        assert report.material is not None, [finding.code for finding in report.findings]

    @pytest.mark.parametrize("offer_id", ["999999999", "absent", "lc-00000000000000000000"])
    def test_what_is_not_offered_is_said_to_be_so(self, source: Source, offer_id: str) -> None:
        with pytest.raises(NotOffered):
            source.fetch(offer_id)
        if source.capabilities.renews:
            with pytest.raises(NotOffered):
                source.renew(offer_id, reference="t")

    def test_content_and_errors_never_show_a_key(self, source: Source) -> None:
        content = source.fetch(first_offer(source).id)
        line = content.private_key_pem.splitlines()[3]
        assert line not in repr(content)
        with pytest.raises(DriverError) as refused:
            source.fetch("absent")
        assert line not in repr(refused.value)

    def test_nothing_is_found_that_was_not_ordered(self, source: Source) -> None:
        assert source.find_renewal(first_offer(source).id, reference="never") is None

    def test_a_renewal_is_another_certificate_for_the_same_names_and_no_shorter(
        self, service: ServiceUnderTest, source: Source
    ) -> None:
        old = first_offer(source)
        before = source.fetch(old.id)
        new_id = renewed(service, source, old)
        after = source.fetch(new_id)
        assert new_id != old.id
        assert names_of(after) == names_of(before)
        assert leaf_of(after).fingerprint(hashes.SHA256()) != leaf_of(before).fingerprint(hashes.SHA256())
        assert leaf_of(after).not_valid_after_utc >= leaf_of(before).not_valid_after_utc

    def test_the_old_one_stays_as_it_is(self, service: ServiceUnderTest, source: Source) -> None:
        old = first_offer(source)
        before = source.fetch(old.id)
        new_id = renewed(service, source, old)
        assert source.fetch(old.id) == before
        assert {old.id, new_id} <= {offer.id for offer in all_offers(source)}

    def test_the_same_token_orders_once(self, service: ServiceUnderTest, source: Source) -> None:
        old = first_offer(source)
        count = len(all_offers(source))
        first = renewed(service, source, old)
        service.issue()
        assert service.new_source().renew(old.id, reference="t1").offer_id == first
        assert len(all_offers(source)) == count + 1

    def test_the_same_token_at_once_orders_once(self, service: ServiceUnderTest, source: Source) -> None:
        old = first_offer(source)
        count = len(all_offers(source))
        with ThreadPoolExecutor(CONCURRENT) as pool:
            for ended in [pool.submit(service.new_source().renew, old.id, reference="t1") for _ in range(CONCURRENT)]:
                ended.result()
        service.issue()
        assert len(all_offers(source)) == count + 1

    def test_an_order_is_found_before_and_after_it_is_issued(self, service: ServiceUnderTest, source: Source) -> None:
        old = first_offer(source)
        source.renew(old.id, reference="t1")
        assert service.new_source().find_renewal(old.id, reference="t1") is not None
        service.issue()
        found = service.new_source().find_renewal(old.id, reference="t1")
        assert found is not None
        assert found.offer_id is not None
        assert source.fetch(found.offer_id)

    def test_another_certificates_renewal_is_not_found(self, service: ServiceUnderTest, source: Source) -> None:
        first, second = all_offers(source)[:2]
        renewed(service, source, first)
        assert source.find_renewal(second.id, reference="t1") is None


def all_offers(source: Source, *, limit: int = 50) -> list[Offer]:
    """Every page."""
    offers: list[Offer] = []
    cursor = None
    while True:
        page = source.list_offers(cursor=cursor, limit=limit)
        assert len(page.offers) <= limit
        offers += page.offers
        cursor = page.next_cursor
        if cursor is None:
            return offers


def first_offer(source: Source) -> Offer:
    """The one of the first name."""
    return next(offer for offer in all_offers(source) if offer.common_name == NAMES[0])


def renewed(service: ServiceUnderTest, source: Source, old: Offer, *, reference: str = "t1") -> str:
    """Order, have it issued, and find it."""
    source.renew(old.id, reference=reference)
    service.issue()
    found = source.find_renewal(old.id, reference=reference)
    assert found is not None
    assert found.offer_id is not None
    return found.offer_id


def leaf_of(content: Content) -> x509.Certificate:
    """The first certificate."""
    return x509.load_pem_x509_certificates(content.certificate_pem.encode())[0]


def names_of(content: Content) -> list[str]:
    """DNS names."""
    extension = leaf_of(content).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(extension.value.get_values_for_type(x509.DNSName))


def spki(certificate: x509.Certificate) -> bytes:
    """What names the key of a certificate."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_spki(content: Content) -> bytes:
    """The same, of the private key."""
    key = serialization.load_pem_private_key(content.private_key_pem.encode(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
