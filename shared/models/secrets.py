"""Everything secret that is kept, sealed by the vault (``shared/crypto/vault.py``); no clear column anywhere."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class Purpose(StrEnum):
    """What a secret is for; authenticated with the ciphertext."""

    UPLOAD = "upload"
    PRIVATE_KEY = "private_key"
    WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 - the name of a purpose
    CALLBACK_SECRET = "callback_secret"  # noqa: S105 - the name of a purpose
    OLD_CALLBACK_SECRETS = "old_callback_secrets"
    ANSWER = "answer"


class Secret(Base):
    """One sealed secret of one subject (a certificate, a webhook endpoint, an account)."""

    __tablename__ = "secrets"

    subject_id: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    kek_id: Mapped[str] = mapped_column(index=True)
    wrapped_key: Mapped[bytes]
    ciphertext: Mapped[bytes]
