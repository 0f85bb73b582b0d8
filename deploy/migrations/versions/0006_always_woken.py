"""What is due is found by the sweep: the database holds it"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("jobs", "deployments", "listeners", "webhook_deliveries", "reminders")


def upgrade() -> None:
    for table in TABLES:
        op.create_check_constraint("always_woken", table, "(next_attempt_at IS NULL) = (next_wake_at IS NULL)")


def downgrade() -> None:
    for table in TABLES:
        op.drop_constraint(op.f(f"ck_{table}_always_woken"), table, type_="check")
