"""Opening the store: SQLite (WAL) by default, PostgreSQL for many processes; migrated on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from ingest.errors import OpsmendError


class StoreError(OpsmendError):
    """The store can't be reached, or refuses. Callers that act on its word do nothing."""

    reason = "store"
    is_transient = True


class StoreBusy(StoreError):
    """Every connection was in use for as long as one waits for one (30 s). The store itself may be well."""

    reason = "store_busy"


AWAY: Final = (sa.exc.OperationalError, sa.exc.TimeoutError)
"""What passes by itself: the database is away, locked or ending; or no connection came free in time."""
REFUSED: Final = (sa.exc.DBAPIError, sa.exc.TimeoutError)
"""All that a database says, what passes by itself and what does not."""


def store_error(error: sa.exc.DBAPIError | sa.exc.TimeoutError) -> StoreError:
    """In our words."""
    if isinstance(error, sa.exc.TimeoutError):
        return StoreBusy(f"store: no connection came free in time: {error}")
    return StoreError(f"store: {error.orig}")


_MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(url: str) -> sa.Engine:
    """An engine on `url`, migrated to the newest schema.

    SQLite runs in WAL mode with `synchronous=FULL`: what was committed survives a power cut.
    Raises StoreError (with the remedy) if the database can't be opened.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
            Path(parsed.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.set(database=str(Path(parsed.database).expanduser()))
        engine = sa.create_engine(parsed)
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", _postgres_limits)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_pragmas)
            event.listen(engine, "begin", _begin_immediate)
        migrate(engine)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise StoreError(f"[store] url {sa.make_url(url).render_as_string(hide_password=True)}: {error}. "
                         "Check that it exists and that this user may write there.") from error
    return engine


def _postgres_limits(connection: Any, _record: Any) -> None:
    # A member that is frozen in the middle of a transaction must not hold its locks against the others for ever:
    # the server ends it, and the member, should it come back, tries again and finds itself fenced.
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '10s'")
    connection.commit()


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    # SQLAlchemy's own begin handling, so that BEGIN IMMEDIATE below is the only BEGIN.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=15000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    # Take the write lock at once when a transaction is going to write: a deferred one that upgrades later
    # fails with "database is locked" without waiting. Readers ask for a deferred one by option.
    deferred = connection.get_execution_options().get("opsmend_read_only", False)
    connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def reading(engine: sa.Engine) -> sa.Connection:
    """A connection for reads alone; it never blocks the writer (SQLite WAL)."""
    return engine.connect().execution_options(opsmend_read_only=True)


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision. A no-op, without a write, when it is there already."""
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    with reading(engine) as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # of members that start together, one migrates and the others wait
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6F70736D, -1)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
