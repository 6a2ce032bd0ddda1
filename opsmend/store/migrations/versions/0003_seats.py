"""observations of several members"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("observations", "observations_before")
    op.create_table(
        "observations",
        sa.Column("ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("seat", sa.Integer(), server_default="0", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        # Not the default name: PostgreSQL's table of before still owns that one.
        sa.PrimaryKeyConstraint("ts_ns", "seat", name="observations_by_seat"),
    )
    op.execute("INSERT INTO observations (ts_ns, seat, body) SELECT ts_ns, 0, body FROM observations_before")
    op.drop_table("observations_before")


def downgrade() -> None:
    op.execute("DELETE FROM observations WHERE seat <> 0")
    with op.batch_alter_table("observations") as batch:
        batch.drop_constraint("observations_by_seat", type_="primary")
        batch.drop_column("seat")
        batch.create_primary_key("observations_pkey", ["ts_ns"])
