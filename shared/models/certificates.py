"""Certificates: what was uploaded, what it says of itself, and its canonical content."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base

LOOK_NOW: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""As ``next_notice_at``: the next scan looks at it, whatever time it is."""


class Certificate(Base):
    """One logical certificate. The facts are null until the worker has validated the upload."""

    __tablename__ = "certificates"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    type: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]
    managed_certificate_id: Mapped[str | None]
    common_name: Mapped[str | None]
    names: Mapped[list[str]] = mapped_column(default=list)
    subject: Mapped[str | None]
    issuer: Mapped[str | None]
    serial: Mapped[str | None]
    not_before: Mapped[datetime | None]
    not_after: Mapped[datetime | None]
    key_algorithm: Mapped[str | None]
    fingerprint_sha1: Mapped[str | None]
    fingerprint_sha256: Mapped[str | None]
    chain: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    chain_pem: Mapped[str | None]
    findings: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    contacts: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[dict[str, str]] = mapped_column(default=dict)
    reminders_muted: Mapped[bool] = mapped_column(default=False)
    reminders_acknowledged_at: Mapped[datetime | None]
    reminders_acknowledged_by: Mapped[str | None]
    """A token's id, or ``mailto:`` and the address of the recipient who answered a mail."""
    reminders_snoozed_until: Mapped[datetime | None]
    """Never later than the floor before its end: ``shared.domain.answers``."""
    reminders_snoozed_by: Mapped[str | None]
    reminder_thresholds: Mapped[list[int] | None]
    """Days before the end, farthest first; empty: only once it has expired; null: as its account says."""
    ends_first_at: Mapped[datetime | None]
    """When the first of what is sent with it ends (``shared.domain.deadlines``); never later than its own end."""
    ends_last_at: Mapped[datetime | None]
    """When the last of it ends that is worth a notice."""
    next_notice_at: Mapped[datetime | None] = mapped_column(default=LOOK_NOW, server_default=text("to_timestamp(0)"))
    """From this instant on the scan looks at it; before, nothing can be due unless something is changed, and then
    whoever changes it sets ``LOOK_NOW``. Null: never again."""
    auto_renew: Mapped[bool | None]
    """Whether it is renewed without being asked to; null: as its account says."""
    renew_before_days: Mapped[int | None]
    """How long before its end; null: as its account says."""
    replaces_id: Mapped[str | None] = mapped_column(ForeignKey("certificates.id"))
    replaced_by_id: Mapped[str | None] = mapped_column(ForeignKey("certificates.id"))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_certificates_account_id_id", "account_id", "id"),
        Index("ix_certificates_account_id_fingerprint", "account_id", "fingerprint_sha256"),
        Index(
            "ix_certificates_next_notice",
            "next_notice_at",
            "id",
            postgresql_where=text("state = 'valid' AND NOT reminders_muted"),
        ),
        Index("ix_certificates_account_id_ends_first_at", "account_id", "ends_first_at", "id"),
        Index("ix_certificates_account_id_not_after", "account_id", "not_after"),
        Index(
            "ix_certificates_renewable",
            "id",
            postgresql_where=text("source = 'managed' AND state = 'valid' AND replaced_by_id IS NULL"),
        ),
    )
