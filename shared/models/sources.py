"""Certificate services: what each offers, as it was last listed, and what jobs are getting from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.domain.acquisitions import FINAL_ACQUISITIONS, FINAL_CATALOGUES
from shared.models.base import ALWAYS_WOKEN, Base, Leased
from shared.models.jobs import always_due

_WAITING = text("next_wake_at IS NOT NULL")


class SourceCatalogue(Leased, Base):
    """One declared source of one account: when its offers were last listed, and how that went."""

    __tablename__ = "source_catalogues"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    source: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    offers: Mapped[int] = mapped_column(default=0)
    refreshed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint(always_due(FINAL_CATALOGUES), name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        UniqueConstraint("account_id", "source"),
        Index("ix_source_catalogues_next_wake_at", "next_wake_at", postgresql_where=_WAITING),
    )


class ManagedCertificate(Base):
    """One certificate that a service offers to an account, as it was last listed. No content, no key."""

    __tablename__ = "managed_certificates"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    """``<source>:<the service's own id>``"""
    source: Mapped[str]
    name: Mapped[str]
    common_name: Mapped[str | None]
    names: Mapped[list[str]] = mapped_column(default=list)
    issuer: Mapped[str | None]
    serial: Mapped[str | None]
    not_before: Mapped[datetime | None]
    not_after: Mapped[datetime | None]
    key_algorithm: Mapped[str | None]
    fingerprint_sha256: Mapped[str | None]
    seen_at: Mapped[datetime]

    __table_args__ = (Index("ix_managed_certificates_account_id_source", "account_id", "source"),)


class Acquisition(Leased, Base):
    """What one job needs from a certificate service before it can be validated.

    ``offer_id`` is what to fetch, or to renew; ``issued_offer_id`` what a renewal became. ``reference`` names the order
    to the service; it is kept before the order is placed, and a renewal of the same certificate again has the same one.
    """

    __tablename__ = "acquisitions"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"), index=True)
    kind: Mapped[str]
    state: Mapped[str]
    source: Mapped[str]
    offer_id: Mapped[str]
    reference: Mapped[str | None]
    issued_offer_id: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    ordered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(always_due(FINAL_ACQUISITIONS), name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        Index("ix_acquisitions_next_wake_at", "next_wake_at", postgresql_where=_WAITING),
    )
