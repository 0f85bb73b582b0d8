"""Rows of several tables in one statement: what is written is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.rollout import JobKind, JobState
from shared.models import Account, AuditEntry, Certificate, Job, Secret, insertion
from tests.support.fleet import Fleet, build_fleet

NOW = datetime(2026, 11, 24, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    built = build_fleet(database_url, tmp_path)
    yield built
    built.context.database.close()


def account() -> Account:
    return Account(id="acc_x", name='Käufer "x" \\ ☃', created_at=NOW)


def certificate() -> Certificate:
    return Certificate(
        id="cert_x",
        account_id="acc_x",
        name="x",
        type="server",
        source="third_party",
        state=CertificateState.VALIDATING,
        names=["a.example", 'b"{},.example'],
        chain=[{"serial": 2**70, "nested": {"null": None}}],
        tags={"k": "ü"},
        created_at=NOW,
    )


def job() -> Job:
    return Job(
        id="job_x",
        account_id="acc_x",
        certificate_id="cert_x",
        kind=JobKind.CREATE,
        state=JobState.QUEUED,
        next_attempt_at=NOW,
        next_wake_at=NOW,
        created_at=NOW,
    )


def secret() -> Secret:
    return Secret(
        subject_id="cert_x",
        purpose="upload",
        account_id="acc_x",
        kek_id="k",
        wrapped_key=bytes(range(256)),
        ciphertext=b"\\x00' ",
    )


def test_rows_that_point_at_each_other_are_stored_by_one_statement_in_any_order(fleet: Fleet) -> None:
    statements: list[str] = []
    with fleet.transaction() as session:
        listen = (session.get_bind().engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        event.listen(*listen)
        insertion.insert(session, secret(), job(), certificate(), account())
        event.remove(*listen)
    assert len(statements) == 1
    with fleet.transaction() as session:
        stored = session.get_one(Certificate, "cert_x")
        assert (stored.names, stored.chain, stored.tags) == (certificate().names, certificate().chain, {"k": "ü"})
        assert (stored.created_at, stored.state) == (NOW, CertificateState.VALIDATING)
        assert session.get_one(Account, "acc_x").name == account().name
        kept = session.get_one(Secret, ("cert_x", "upload"))
        assert (kept.wrapped_key, kept.ciphertext) == (bytes(range(256)), b"\\x00' ")


def test_an_unset_column_gets_the_default_of_its_model_or_null(fleet: Fleet) -> None:
    with fleet.transaction() as session:
        insertion.insert(session, account(), certificate(), job())
    with fleet.transaction() as session:
        stored = session.get_one(Job, "job_x")
        assert (stored.attempt, stored.fence, stored.findings) == (0, 0, [])
        assert session.execute(text("SELECT error IS NULL FROM jobs WHERE id = 'job_x'")).scalar_one()
        assert session.get_one(Certificate, "cert_x").contacts == []


def test_a_row_that_points_nowhere_stores_nothing(fleet: Fleet) -> None:
    def store(session: Session) -> None:
        insertion.insert(session, account(), job())

    with pytest.raises(IntegrityError), fleet.transaction() as session:
        store(session)
    with fleet.transaction() as session:
        assert session.get(Account, "acc_x") is None


def test_what_the_session_holds_back_is_written_first(fleet: Fleet) -> None:
    with fleet.transaction() as session:
        session.add(account())
        entry = AuditEntry(id="aud_x", account_id="acc_x", actor="tok", action="x.y", target="z", details={}, at=NOW)
        insertion.insert(session, entry)
    with fleet.transaction() as session:
        assert session.get_one(AuditEntry, "aud_x").at == NOW
