"""When a notice is due, to whom, and when it is mailed"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ENDS = """
    UPDATE certificates SET
        ends_first_at = least(not_after, chain_ends.first),
        ends_last_at = CASE WHEN type = 'ca' THEN greatest(not_after, chain_ends.last) ELSE not_after END
    FROM (
        SELECT certificate.id, min((link ->> 'not_after')::timestamptz) AS first,
            max((link ->> 'not_after')::timestamptz) AS last
        FROM certificates AS certificate LEFT JOIN jsonb_array_elements(certificate.chain) AS link ON true
        GROUP BY certificate.id
    ) AS chain_ends
    WHERE chain_ends.id = certificates.id AND not_after IS NOT NULL
"""

HISTORY = "UPDATE certificates SET next_notice_at = NULL WHERE ends_last_at < now() - interval '30 days'"
"""What ended long ago was told by earlier versions."""


def upgrade() -> None:
    op.add_column("accounts", sa.Column("reminder_thresholds", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.add_column("accounts", sa.Column("time_zone", sa.String(), server_default="UTC", nullable=False))
    op.add_column("accounts", sa.Column("quiet_from", sa.Time(), nullable=True))
    op.add_column("accounts", sa.Column("quiet_until", sa.Time(), nullable=True))
    op.add_column("accounts", sa.Column("reminders_recheck_after", sa.String(), nullable=True))
    op.create_check_constraint(
        op.f("ck_accounts_quiet_window"), "accounts", "(quiet_from IS NULL) = (quiet_until IS NULL)"
    )
    op.create_index(
        "ix_accounts_to_recheck",
        "accounts",
        ["id"],
        postgresql_where=sa.text("reminders_recheck_after IS NOT NULL"),
    )
    op.add_column("certificates", sa.Column("reminder_thresholds", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.add_column("certificates", sa.Column("ends_first_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("certificates", sa.Column("ends_last_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "certificates",
        sa.Column(
            "next_notice_at", sa.DateTime(timezone=True), server_default=sa.text("to_timestamp(0)"), nullable=True
        ),
    )
    op.execute(ENDS)
    op.execute(HISTORY)
    op.drop_index("ix_certificates_expiry", table_name="certificates")
    op.create_index(
        "ix_certificates_next_notice",
        "certificates",
        ["next_notice_at", "id"],
        postgresql_where=sa.text("state = 'valid' AND NOT reminders_muted"),
    )
    op.create_index("ix_certificates_account_id_ends_first_at", "certificates", ["account_id", "ends_first_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_certificates_account_id_ends_first_at", table_name="certificates")
    op.drop_index("ix_certificates_next_notice", table_name="certificates")
    op.create_index(
        "ix_certificates_expiry",
        "certificates",
        ["not_after"],
        postgresql_where=sa.text("state = 'valid' AND NOT reminders_muted"),
    )
    for column in ("next_notice_at", "ends_last_at", "ends_first_at", "reminder_thresholds"):
        op.drop_column("certificates", column)
    op.drop_index("ix_accounts_to_recheck", table_name="accounts")
    op.drop_constraint(op.f("ck_accounts_quiet_window"), "accounts", type_="check")
    for column in ("reminders_recheck_after", "quiet_until", "quiet_from", "time_zone", "reminder_thresholds"):
        op.drop_column("accounts", column)
