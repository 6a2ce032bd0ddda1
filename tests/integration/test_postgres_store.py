"""The store on a real PostgreSQL: what differs from SQLite."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import opsmend.store
from opsmend.lab.backends import Postgres, find_binaries
from opsmend.store import tables as t
from opsmend.store.engine import open_engine
from opsmend.store.outbox import add_event, cursors, events_since, last_seq, set_cursor, trim_events

MOST_OF_32_BITS = 2**31 - 1
MIGRATIONS = Path(opsmend.store.__file__).parent / "migrations"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of an empty database."""
    if not find_binaries().postgres_bin:
        pytest.skip("NOT TESTED: no PostgreSQL on this machine")
    with tempfile.TemporaryDirectory(prefix="opsmend-store-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # as root, the server runs as somebody else
        with (directory / "log").open("wb") as log:
            postgres = Postgres(find_binaries(), directory / "data", log)
            postgres.initialise()
            server = postgres.start()
            try:
                postgres.wait(60)
                yield postgres.dsn("lab").replace("postgresql://", "postgresql+psycopg://")
            finally:
                server.send_signal(signal.SIGQUIT)
                server.wait(20)


def upgrade(engine: sa.Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_events_of_a_database_from_before_are_numbered_on_beyond_32_bits(url: str) -> None:
    before = sa.create_engine(url)
    upgrade(before, "0006")
    with before.begin() as c:
        c.execute(sa.text("SELECT setval('events_seq_seq', :last)"), {"last": MOST_OF_32_BITS - 1})
        add_event(c, "io.opsmend.test", "old", 1, {"n": 1})
    with pytest.raises(sa.exc.DBAPIError, match="maximum value"), before.begin() as c:
        add_event(c, "io.opsmend.test", "refused", 2, {})
    before.dispose()
    engine = open_engine(url)
    try:
        with engine.begin() as c:
            add_event(c, "io.opsmend.test", "new", 3, {"n": 2})
        assert [(e.seq, e.subject, bytes(e.body)) for e in events_since(engine, 0)] == [
            (MOST_OF_32_BITS, "old", b'{"n":1}'), (MOST_OF_32_BITS + 1, "new", b'{"n":2}')]
        set_cursor(engine, "webhook", last_seq(engine))
        assert cursors(engine) == {"webhook": MOST_OF_32_BITS + 1}
        assert [e.subject for e in events_since(engine, MOST_OF_32_BITS)] == ["new"]
        with engine.begin() as c:
            trim_events(c)
        assert last_seq(engine) == MOST_OF_32_BITS + 1
    finally:
        engine.dispose()


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    engine = open_engine(url)
    try:
        found = sa.inspect(engine)
        for table in t.metadata.sorted_tables:
            kinds = {column["name"]: type(column["type"]) for column in found.get_columns(table.name)}
            wide = {name for name, kind in kinds.items() if issubclass(kind, sa.BigInteger)}
            assert wide == {c.name for c in table.columns if isinstance(c.type, sa.BigInteger)}, table.name
    finally:
        engine.dispose()
