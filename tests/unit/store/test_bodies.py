"""A row that can't be read hides itself, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from detect.types import Breach, Incident, Observations, Signal
from ingest.types import SeriesKey, Watermark
from opsmend.store import tables as t
from opsmend.store.bodies import Bodies, Unreadable
from opsmend.store.ledger import SqlLedger
from opsmend.store.outbox import events_since
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult
from remediate.ports import Unclear
from remediate.types import Plan


def incident(n: int) -> Incident:
    breach = Breach("disk", 1.0, "up", 9, 10, 11, 0.9)
    signal = Signal(f"s{n}", "default", "breach", "breach", "cart", n, n, 0.9, "disk", breach=breach)
    return Incident(f"i{n}", "default", "f", n, n, "open", "info", "", ("cart",), (signal,), (), n)


def stored(engine: sa.Engine, broken: set[int], body: bytes) -> None:
    records = Records(engine, retention_seconds=60)
    for n in range(1, 10):
        records.put_alone(incident(n))
    with engine.begin() as c:
        for n in broken:
            c.execute(t.incidents.update().where(t.incidents.c.id == f"i{n}").values(body=body))


@pytest.mark.parametrize("body", [b"{", b"", b'{"id": "i"}', b'{"id": "\xff"}'])
def test_a_list_leaves_it_out_and_is_as_long_as_was_asked_for(engine: sa.Engine, body: bytes) -> None:
    stored(engine, {8, 6, 2}, body)
    told: Counter[str] = Counter()
    queries = Queries(engine, Bodies(lambda table: told.update([table])))
    with capture_logs() as logs:
        assert [i.id for i in queries.incidents(limit=3)] == ["i9", "i7", "i5"]
        assert [i.id for i in queries.incidents()] == ["i9", "i7", "i5", "i4", "i3", "i1"]
        assert [i.id for i in queries.incidents(before_ns=5, limit=2)] == ["i4", "i3"]
    assert [(line["event"], line["id"]) for line in logs] == [("store.unreadable_row", i) for i in ("i8", "i6", "i2")]
    assert told == {"incidents": 3}, "each once, however often it is met"
    with pytest.raises(Unreadable, match="i8"):
        queries.incident("i8")
    assert queries.incident("i9") == incident(9)


def test_the_next_step_writes_it_anew(engine: sa.Engine) -> None:
    stored(engine, {3}, b"{")
    last = events_since(engine, 0)[-1].seq
    Records(engine, retention_seconds=60).commit(StepResult(Watermark({("a", 0): 1}), {}, incidents=[incident(3)]))
    assert Queries(engine).incident("i3") == incident(3)
    assert [e.type for e in events_since(engine, last)] == ["io.opsmend.incident.updated", "io.opsmend.breach.predicted"]


def test_a_bucket_that_cannot_be_read_is_one_that_nobody_reported(engine: sa.Engine) -> None:
    seen = Observations(np.arange(1, 4) * 10**9, (SeriesKey("cart", "up"),), np.array([[1.0], [2.0], [3.0]]))
    Records(engine, retention_seconds=60).commit(StepResult(Watermark({("a", 0): 1}), {}, observations=seen))
    with engine.begin() as c:
        c.execute(t.observations.update().where(t.observations.c.ts_ns == 2 * 10**9).values(body=b"\xc1"))
    told: Counter[str] = Counter()
    read = Queries(engine, Bodies(lambda table: told.update([table]))).observations(0, 10**12)
    assert (read.ts_ns // 10**9).tolist() == [1, 3] and read.values.tolist() == [[1.0], [3.0]]
    assert told == {"observations": 1}


def test_who_acts_for_an_incident_is_told_and_who_shows_it_is_not(engine: sa.Engine) -> None:
    told: Counter[str] = Counter()
    acting = SqlLedger(engine, bodies=Bodies(lambda table: told.update([table])))
    showing = SqlLedger(engine, is_shown=True)
    for n in range(3):
        acting.put_plan(Plan(f"p{n}", f"i{n % 2}", n, "restart", "h", "h", "t", "cart", "process.restart", {}, "rule", 1.0, "",
                             "low", True))
    with engine.begin() as c:
        c.execute(t.plans.update().where(t.plans.c.id == "p1").values(body=b"{"))
    for ask in (lambda: acting.plans(incident_id="i1"), lambda: acting.plan("p1")):
        with pytest.raises(Unclear, match="p1"):
            ask()
    assert [p.id for p in showing.plans()] == [p.id for p in acting.plans()] == ["p2", "p0"]
    assert [p.id for p in acting.plans(incident_id="i0")] == ["p2", "p0"] and not showing.plans(incident_id="i1")
    assert told == {"plans": 1}
