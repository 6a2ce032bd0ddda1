"""A check of the forecaster on what a service's store holds: promoted, kept, rolled back; the thread that follows."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detect.config import DetectionConfig
from detect.forecaster.lstm import Forecaster
from detect.forecaster.synthetic import synthetic_batch
from detect.forecaster.versions import ModelVersions
from detect.forecaster.weights import Weights
from detect.types import Observations
from ingest.types import SeriesKey, Watermark
from opsmend.cli import app, main
from opsmend.forecasting.background import ForecasterLife, LifeConfig, models_dir
from opsmend.forecasting.check import Order, check, last_report
from opsmend.forecasting.data import recent_series
from opsmend.store.engine import open_engine
from opsmend.store.records import Records, StepResult

SHIPPED = Weights.load()
START_NS = 1_700_000_000 * 10**9
BUCKET = 10.0


def observations(n: int = 60, t: int = 1000, seed: int = 3) -> Observations:
    made = synthetic_batch(n, t, np.random.default_rng(seed), BUCKET)
    keys = tuple(SeriesKey(service=f"s{i}", name="usage") for i in range(n))
    return Observations(START_NS + np.arange(t, dtype=np.int64) * int(BUCKET * 1e9), keys, made.values.T.copy())


def spoilt(name: str, change: float = 0.15) -> Weights:
    noise = np.random.default_rng(0).normal(0, change, SHIPPED.v.shape).astype(np.float32)
    return replace(SHIPPED, v=SHIPPED.v + noise, version=name, card={**SHIPPED.card, "version": name})


def test_series_come_in_groups_of_one_cadence() -> None:
    seen = observations(n=12, t=1300)
    seen.values[:, 2] = 5.0  # does not move
    seen.values[100:, 3] = np.nan  # too few
    seen.values[np.arange(1300) % 2 == 1, 4] = np.nan  # every other bucket
    seen.values[5, 5] = 1e40  # counts as missing
    made = recent_series(seen, BUCKET)
    assert [m.step for m in made] == [10.0, 20.0]
    assert [m.values.shape for m in made] == [(9, 1300), (1, 650)]
    assert np.isfinite(made[1].values).all()
    assert np.nanmax(np.abs(made[0].values)) < 1e30
    assert recent_series(Observations(np.zeros(0, np.int64), (), np.zeros((0, 0))), BUCKET) == []


def test_a_bad_champion_is_rolled_back_by_itself(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    versions.add(spoilt("bad"))
    versions.promote("bad", reason="test", now_ns=START_NS)
    data = recent_series(observations(), BUCKET)
    report = check(versions, data, now_ns=START_NS + 10**13)
    assert report.done == "rolled_back"
    assert versions.champion().version == SHIPPED.version
    assert versions.events()[-1]["reason"].startswith("automatic")


def test_what_was_rolled_back_is_not_promoted_by_the_next_check(tmp_path: Path) -> None:
    """The champion is spoilt, so that its tuned challenger wins; and the stream stays what it is."""
    versions = ModelVersions(tmp_path)
    versions.add(spoilt("bad"))
    versions.promote("bad", reason="test", now_ns=START_NS + 10**13)
    state = json.loads((tmp_path / "champion.json").read_text())
    (tmp_path / "champion.json").write_text(json.dumps({**state, "before": []}))  # nothing for a check to go back to
    data = recent_series(observations(n=60, t=1400, seed=8), BUCKET)
    assert check(versions, data, now_ns=START_NS, updates=120).done == "promoted"
    promoted = versions.current()
    versions.rollback(reason="automatic", now_ns=START_NS + 1)
    again = check(versions, data, now_ns=START_NS, updates=120)  # same data, parent and seed: another name, equal weights
    assert (again.done, versions.current()) == ("kept", "bad")
    assert "was rolled back" in again.reason
    versions.promote(promoted, reason="a person", now_ns=START_NS + 2, by_hand=True)
    versions.rollback(reason="a person", now_ns=START_NS + 3, by_hand=True)
    report = check(versions, data, now_ns=START_NS + 4, seed=1, updates=120, always_tune=True)  # would be another one
    assert (report.done, versions.current()) == ("nothing", "bad")
    assert f"a person rolled {promoted} back" in report.reason
    assert check(versions, data, now_ns=START_NS + 5, updates=120, always_tune=True, by_hand=True).done == "promoted"


def test_a_champion_of_long_standing_that_is_good_stays(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    data = recent_series(observations(n=30, t=800), BUCKET)
    first = check(versions, data, now_ns=1, updates=6)  # never checked before: a challenger is tried at once
    assert first.done in ("kept", "promoted")
    report = check(versions, data, now_ns=2, updates=6) if first.done == "kept" else first
    assert report.done in ("nothing", "promoted")
    assert last_report(tmp_path) is not None
    assert check(versions, data[:0], now_ns=3).done == "no_data"


def test_a_check_without_new_data_does_nothing_and_never_promotes_a_version_of_the_same_name(tmp_path: Path) -> None:
    """A stream that stands still must not make the same challenger win over and over."""
    versions = ModelVersions(tmp_path)
    data = recent_series(observations(n=12, t=700), BUCKET)
    first = check(versions, data, now_ns=START_NS, updates=2)
    again = check(versions, data, now_ns=START_NS, updates=2)
    assert (again.done, again.reason) == ("nothing", "no data since the last check")
    kept = last_report(tmp_path)
    assert kept is not None and kept.at_ns == first.at_ns
    check(versions, data, now_ns=START_NS, updates=2, always_tune=True)
    names = [card["version"] for card in versions.cards()]
    assert len(names) == len(set(names)) == 2 and names[1] == f"{names[0]}-2"


def stored(tmp_path: Path, seen: Observations) -> str:
    url = f"sqlite:///{tmp_path / 'opsmend.db'}"
    engine = open_engine(url)
    Records(engine, retention_seconds=10**6).commit(StepResult(Watermark({}), {}, observations=seen))
    engine.dispose()
    return url


def test_the_thread_checks_in_a_process_of_its_own_and_follows(tmp_path: Path) -> None:
    """A spoilt champion in the data directory of a service; the check repairs it, the service takes it over."""
    url = stored(tmp_path, observations())
    versions = ModelVersions(tmp_path / "models")
    versions.add(spoilt("bad"))
    versions.promote("bad", reason="test", now_ns=START_NS)
    adopted: list[str] = []
    life = ForecasterLife(LifeConfig(every_seconds=0.0), versions, Order(url, str(versions.directory), BUCKET),
                          lambda weights: adopted.append(weights.version))
    try:
        until = time.monotonic() + 120
        while not adopted and time.monotonic() < until:
            life.turn()
            time.sleep(0.1)
    finally:
        life.stop()
    assert adopted[0] != "bad"
    assert versions.champion().version == adopted[0]


def test_the_thread_follows_a_roll_back_by_hand_and_does_not_check_where_it_must_not(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    versions.add(spoilt("next"))
    versions.promote("next", reason="test", now_ns=1)
    adopted: list[str] = []
    life = ForecasterLife(LifeConfig(is_tuning=False, every_seconds=0.0, watch_seconds=0.01), versions,
                          Order("sqlite://", str(tmp_path), BUCKET), lambda weights: adopted.append(weights.version))
    life.start()
    versions.rollback(reason="by hand", now_ns=2)
    until = time.monotonic() + 20
    while not adopted and time.monotonic() < until:
        time.sleep(0.01)
    life.stop()
    assert adopted == [SHIPPED.version]
    assert not (tmp_path / "check.json").exists()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opsmend.toml").write_text(f'[service]\ndata_dir = "{tmp_path}"\n')
    versions = ModelVersions(models_dir(tmp_path))
    versions.add(spoilt("next"))
    versions.promote("next", reason="test", now_ns=1)
    with pytest.raises(SystemExit):
        monkeypatch.setattr("sys.argv", ["opsmend", "models", "--help"])
        main()
    at = ["-c", str(tmp_path / "opsmend.toml")]
    listed = CliRunner().invoke(app, ["models", "list", *at])
    assert "* next" in listed.output
    assert CliRunner().invoke(app, ["models", "rollback", *at]).exit_code == 0
    assert versions.champion().version == SHIPPED.version
    assert CliRunner().invoke(app, ["models", "rollback", *at]).exit_code == 1
    SHIPPED.save(tmp_path / "own")
    assert CliRunner().invoke(app, ["models", "use", str(tmp_path / "own"), *at]).exit_code == 0
    assert versions.current() == SHIPPED.version
    assert CliRunner().invoke(app, ["models", "use", str(tmp_path), *at]).exit_code == 1
    checked = CliRunner().invoke(app, ["models", "check", *at])
    assert "no_data" in checked.output


def test_what_training_does_not_offer_is_refused_with_the_reason() -> None:
    from opsmend.commands.train import run_training
    from opsmend.config import ConfigError

    with pytest.raises(ConfigError, match="INT8"):
        run_training("forecaster", None, 0, quantize=True)
    with pytest.raises(ConfigError, match="--out"):
        run_training("forecaster", None, 0, distill=16)
    with pytest.raises(ConfigError, match="forecaster"):
        run_training("rootcause", None, 0, distill=16)


def test_a_service_starts_with_its_champion_and_takes_a_new_one_between_two_steps(tmp_path: Path) -> None:
    from opsmend.pipeline import Pipeline, PipelineConfig

    versions = ModelVersions(tmp_path)
    versions.add(spoilt("own"))
    versions.promote("own", reason="test", now_ns=1)
    pipeline = Pipeline(PipelineConfig(detection=DetectionConfig(forecaster_dir=str(tmp_path))))
    assert versions_in_use(pipeline) == {"own"}
    pipeline.use_forecaster(SHIPPED)
    assert versions_in_use(pipeline) == {SHIPPED.version}


def versions_in_use(pipeline: object) -> set[str]:
    """Of every forecaster that the pipeline's detectors own, wherever they keep it."""
    found, seen, todo = set(), set(), [pipeline]
    while todo:
        one = todo.pop()
        if id(one) in seen or not hasattr(one, "__dict__"):
            continue
        seen.add(id(one))
        if isinstance(one, Forecaster):
            found.add(one.version)
        for part in vars(one).values():
            todo.extend(part if isinstance(part, list) else [part])
    return found
