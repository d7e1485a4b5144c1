"""What handlers count, by shard."""

import sqlalchemy as sa
from alembic import op

from admin.store.types import LONG_TEXT

revision = "20261128_counts"
down_revision = "20261128_run_logs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shards", sa.Column("counts", LONG_TEXT, nullable=True))


def downgrade() -> None:
    op.drop_column("shards", "counts")
