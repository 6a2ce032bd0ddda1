import numpy as np
import pytest
import sqlalchemy as sa

from detect.types import Incident, Observations
from ingest.types import Change, DeadLetter, SeriesKey, Watermark
from opsmend.store.outbox import events_since
from opsmend.store.queries import Queries
from opsmend.store.records import Fenced, Records, StepResult

UP, RSS = SeriesKey("cart", "process.up", "cart-1"), SeriesKey("cart", "process.memory.rss", "cart-1")


def incident(state: str = "open") -> Incident:
    return Incident("i1", "default", "f", 10, 20, state, "critical", "cart is down", ("cart",), (), (), 9)  # type: ignore[arg-type]


def step(at: int, **changes: object) -> StepResult:
    seen = Observations(np.array([at * 10**9]), (UP, RSS), np.array([[1.0, np.nan]]))
    fields = {"watermark": Watermark({("logs", 0): at}), "states": {"detect": b"s%d" % at}, "totals": {"records": 2},
              "observations": seen}
    return StepResult(**{**fields, **changes})  # type: ignore[arg-type]


def test_results_state_and_watermark_are_one(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1, incidents=[incident()], changes=[Change(5, "cart", "rollout")] * 2))
    records.commit(step(2, incidents=[incident("closed")]))
    queries = Queries(engine)
    assert records.watermark() == Watermark({("logs", 0): 2})
    assert records.states() == {"detect": b"s2"}
    assert queries.totals() == {"records": 4}
    assert [i.state for i in queries.incidents()] == ["closed"]
    assert len(queries.changes(0, 10)) == 1
    assert [e.type for e in events_since(engine, 0)] == [
        "io.opsmend.incident.opened", "io.opsmend.incident.closed"]


def test_a_step_that_fails_halfway_leaves_nothing(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1))
    broken = step(2, changes=[Change(None, "cart", "rollout")])  # type: ignore[arg-type]
    with pytest.raises(sa.exc.IntegrityError):
        records.commit(broken)
    assert records.watermark() == Watermark({("logs", 0): 1})
    assert records.states() == {"detect": b"s1"}
    assert Queries(engine).totals() == {"records": 2}


def test_series_ids_of_a_lost_transaction_are_not_used_again(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    with pytest.raises(TypeError):
        records.commit(step(1, observations=Observations(np.array([10**9]), (UP, object()), np.ones((1, 2)))))  # type: ignore[arg-type]
    records.commit(step(2))
    read = Queries(engine).observations(0, 10**12)
    assert read.series == (UP,)
    assert read.values.tolist() == [[1.0]]


def test_observations_come_back_as_they_were(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1))
    seen = Observations(np.array([2 * 10**9, 3 * 10**9]), (RSS, UP), np.array([[5.0, 1.0], [6.0, np.nan]]))
    records.commit(step(2, observations=seen))
    read = Queries(engine).observations(0, 10**12)
    assert read.ts_ns.tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    rss = read.series.index(RSS)
    assert np.array_equal(read.values[:, rss], [np.nan, 5.0, 6.0], equal_nan=True)
    only = Queries(engine).observations(0, 10**12, keep=lambda key: key == UP)
    assert only.series == (UP,)


def test_dead_letters_keep_their_bytes(engine: sa.Engine) -> None:
    letter = DeadLetter("logs", 0, 7, 1, "undecodable", "no JSON", b"\x00\xff")
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1, dead_letters=[letter]))
    records.commit(step(2, dead_letters=[letter]))
    assert list(Queries(engine).dead_letters()) == [letter]


def test_of_two_that_think_a_partition_theirs_one_is_refused(engine: sa.Engine) -> None:
    ours, theirs = Records(engine, retention_seconds=3600), Records(engine, retention_seconds=3600, seat=1)
    ours.commit(step(1))
    with pytest.raises(Fenced):
        theirs.commit(step(5))  # it began before there was anything
    theirs.adopt(theirs.stored([("logs", 0)]))
    theirs.commit(step(5))
    with pytest.raises(Fenced):
        ours.commit(step(3))
    with pytest.raises(Fenced):
        ours.commit(step(9))
    assert ours.forget() == Watermark({("logs", 0): 5})
    with pytest.raises(Fenced):
        ours.commit(step(4))  # never backwards
    ours.commit(step(9))
    assert Queries(engine).totals() == {"records": 6}


def test_a_commit_that_was_stored_though_we_were_not_told_is_not_stored_again(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1))
    lost = Records(engine, retention_seconds=3600)
    records.commit(step(2))
    with pytest.raises(Fenced):
        lost.commit(step(2))  # the same step again
    assert Queries(engine).totals() == {"records": 4}


def test_members_have_states_and_observations_of_their_own(engine: sa.Engine) -> None:
    first, second = Records(engine, retention_seconds=3600), Records(engine, retention_seconds=3600, seat=1)
    first.commit(step(1))
    other = Observations(np.array([10**9]), (RSS,), np.array([[7.0]]))
    second.commit(step(2, watermark=Watermark({("logs", 1): 2}), observations=other))
    assert (first.states(), second.states()) == ({"detect": b"s1"}, {"detect": b"s2"})
    seen = Queries(engine).observations(0, 10**12)
    assert seen.ts_ns.tolist() == [10**9]
    assert dict(zip(seen.series, seen.values[0].tolist(), strict=True)) == {UP: 1.0, RSS: 7.0}
    first.commit(step(1))
    assert len(Queries(engine).observations(0, 10**12).series) == 2


def test_what_had_been_forecast_comes_back_when_asked_for(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    records.commit(step(1))  # from before there were forecasts
    told = np.array([[[0.5, 1, 1.5], [np.nan] * 3], [[4, 5, 6], [0, 1, 2]]], np.float32)
    times = np.array([2 * 10**9, 3 * 10**9])
    records.commit(step(2, observations=Observations(times, (RSS, UP), np.array([[5.0, 1.0], [6.0, np.nan]]), told)))
    assert Queries(engine).observations(0, 10**12).forecast is None
    read = Queries(engine).observations(0, 10**12, keep=lambda key: key == RSS, with_forecast=True)
    assert read.forecast is not None and read.forecast.shape == (3, 1, 3)
    assert np.array_equal(read.forecast[:, 0], [[np.nan] * 3, [0.5, 1, 1.5], [4, 5, 6]], equal_nan=True)
