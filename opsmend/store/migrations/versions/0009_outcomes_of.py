"""whose an outcome is stands in columns, so that it can be told where the rest can't be read"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("incident_id", "service"):
        op.add_column("outcomes", sa.Column(name, sa.Text(), nullable=False, server_default=""))
        op.execute(f"UPDATE outcomes SET {name} = COALESCE((SELECT runs.{name} FROM runs WHERE runs.id = outcomes.run_id), '')")
    op.create_index("ix_outcomes_incident_id", "outcomes", ["incident_id"])


def downgrade() -> None:
    op.drop_index("ix_outcomes_incident_id", "outcomes")
    for name in ("service", "incident_id"):
        op.drop_column("outcomes", name)
