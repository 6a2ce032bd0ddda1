"""events are numbered with 64 bits: with 32, PostgreSQL refuses every transaction after 2,147,483,647 events"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _number_with(sa.BigInteger(), "bigint")


def downgrade() -> None:
    _number_with(sa.Integer(), "integer")


def _number_with(kind: sa.types.TypeEngine[int], name: str) -> None:
    """The column, and the sequence behind it, which has a bound of its own. SQLite's integers have 64 bits as they are.
    Rewrites the table, which is bounded (opsmend/store/outbox.py): seconds."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.alter_column("events", "seq", type_=kind, existing_nullable=False)
    op.execute(f"ALTER SEQUENCE events_seq_seq AS {name}")
