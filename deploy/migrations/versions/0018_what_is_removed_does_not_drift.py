"""What is removed does not drift"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Earlier versions kept what was wrong when it was removed, and counted it for ever.
    op.execute("UPDATE deployments SET drift = NULL WHERE state = 'removed' AND drift IS NOT NULL")


def downgrade() -> None:
    """What was wrong with what is gone is not needed by earlier versions either."""
