"""what people say the cause of an incident was, with the window that it can be seen in"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "confirmed_causes",
        sa.Column("incident_id", sa.Text(), primary_key=True),
        sa.Column("at_ns", sa.BigInteger(), nullable=False, index=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("window", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("confirmed_causes")
