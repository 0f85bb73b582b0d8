"""People of an account: their sign-in links, their sessions of the console, and how often somebody tried to get in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class Person(Base):
    """Somebody who may sign in to the console. ``email`` is lower case and belongs to one account."""

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    """Argon2id in its own encoding; null: signs in by link only."""
    created_at: Mapped[datetime]
    signed_in_at: Mapped[datetime | None]


class SignInLink(Base):
    """A link that signs a person in once; known by its hash."""

    __tablename__ = "sign_in_links"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ConsoleSession(Base):
    """One browser that is signed in; its cookie is known by its hash. A session that has ended is deleted."""

    __tablename__ = "console_sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    browser: Mapped[str]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    notice: Mapped[str | None]
    """What the next page says once: the outcome of the last form."""


class SignInCount(Base):
    """How often an address or an e-mail (``key``: their hash) tried to sign in within the window that began then."""

    __tablename__ = "sign_in_counts"

    key: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[datetime] = mapped_column(index=True)
    count: Mapped[int]
