from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from opsmend.store.engine import open_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    yield engine
    engine.dispose()
