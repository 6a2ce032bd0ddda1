"""A small system, and a ledger on a real database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield SqlLedger(engine)
    engine.dispose()
