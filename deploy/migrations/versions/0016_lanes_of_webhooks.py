"""Lanes of webhooks"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

WAITING = "next_wake_at IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "webhook_lanes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("pace", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("rests_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_lanes")),
    )
    for table in ("webhook_endpoints", "webhook_deliveries"):
        op.add_column(table, sa.Column("lane", sa.String(), server_default="", nullable=False))
    op.add_column("webhook_deliveries", sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "webhook_deliveries", sa.Column("is_replay", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    # A callback that was there before has a lane of its own: its job ends soon.
    op.execute("UPDATE webhook_endpoints SET lane = id")
    op.execute("""
        UPDATE webhook_deliveries AS delivery SET lane = delivery.endpoint_id, sequence = event.sequence
        FROM events AS event WHERE event.id = delivery.event_id AND delivery.next_wake_at IS NOT NULL
    """)
    op.create_index(
        "ix_webhook_deliveries_untried",
        "webhook_deliveries",
        ["lane", "is_replay", "sequence"],
        postgresql_where=sa.text(f"{WAITING} AND attempt = 0"),
    )
    op.create_index(
        "ix_webhook_deliveries_retries",
        "webhook_deliveries",
        ["lane", "next_attempt_at"],
        postgresql_where=sa.text(f"{WAITING} AND attempt > 0"),
    )
    op.create_index(
        "ix_webhook_deliveries_on_their_way",
        "webhook_deliveries",
        ["lane"],
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )


def downgrade() -> None:
    for index in ("on_their_way", "retries", "untried"):
        op.drop_index(f"ix_webhook_deliveries_{index}", table_name="webhook_deliveries")
    for column in ("is_replay", "sequence", "lane"):
        op.drop_column("webhook_deliveries", column)
    op.drop_column("webhook_endpoints", "lane")
    op.drop_table("webhook_lanes")
