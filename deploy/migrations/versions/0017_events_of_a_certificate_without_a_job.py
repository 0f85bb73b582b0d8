"""Events of a certificate that belong to no job"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_events_certificate_without_job",
        "events",
        ["certificate_id", "sequence"],
        postgresql_where=sa.text("job_id IS NULL AND certificate_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_events_certificate_without_job", table_name="events")
