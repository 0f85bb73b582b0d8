"""Cancelled jobs"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("certificate_state_before", sa.String(), nullable=True))
    op.add_column("job_deployments", sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("job_deployments", "before")
    op.drop_column("jobs", "certificate_state_before")
    op.drop_column("jobs", "cancel_requested_at")
