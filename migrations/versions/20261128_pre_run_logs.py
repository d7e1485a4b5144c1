"""What handlers logged, in compressed chunks."""

import sqlalchemy as sa
from alembic import op

from admin.store.types import LONG_BYTES, UuidBytes

revision = "20261128_run_logs"
down_revision = "20261128_scheduler"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logged_runs",
        sa.Column("run_id", UuidBytes(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_logged_runs")),
    )
    op.create_index(
        op.f("ix_logged_runs_last_ms_stored_bytes"), "logged_runs", ["last_ms", "stored_bytes"], unique=False
    )
    op.create_table(
        "run_logs",
        sa.Column("run_id", UuidBytes(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shard_index", sa.BigInteger(), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("raw_bytes", sa.Integer(), nullable=False),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.Column("chunk", LONG_BYTES, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_logs")),
    )
    op.create_index(
        op.f("ix_run_logs_run_id_shard_index_number"), "run_logs", ["run_id", "shard_index", "number"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_run_logs_run_id_shard_index_number"), table_name="run_logs")
    op.drop_table("run_logs")
    op.drop_index(op.f("ix_logged_runs_last_ms_stored_bytes"), table_name="logged_runs")
    op.drop_table("logged_runs")
