"""What had been forecast travels with the buckets: made before the value was seen, the same across a restart and shards."""

from __future__ import annotations

import json

import numpy as np

from detect.config import DetectionConfig
from detect.stage import Detection
from detect.tenant import TenantDetection
from detect.types import Observations
from ingest.decode import Decoder, DecoderConfig
from ingest.types import Record, SeriesKey
from opsmend.runners.quix_envelope import Judgement, encode, open_told
from opsmend.runners.quix_shard import Shard

START, SECONDS = 1_790_000_000, 90
KEY = SeriesKey("cart", "app.depth", "cart-1")
CONFIG = DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0)


def rows(first: int, last: int, jump_at: int = -1) -> list[Record]:
    dice = np.random.default_rng(4).normal(0, 0.1, SECONDS)
    points = [{"type": "metric", "ts": START + n + 0.5, "service": KEY.service, "instance": KEY.instance, "name": KEY.name,
               "value": 50.0 if n == jump_at else 5.0 + float(dice[n])} for n in range(first, last)]
    return [Record("in", 0, first + i, 0, json.dumps(point).encode()) for i, point in enumerate(points)]


def seen(detection: Detection, records: list[Record]) -> Observations:
    return detection.step(Decoder(DecoderConfig()).decode(records), frozenset()).observations


def bands(found: Observations) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    assert found.forecast is not None and found.forecast.shape == (*found.values.shape, 3)
    at = next(i for i, k in enumerate(found.series) if k.name == KEY.name)
    return found.forecast[:, at]


def test_a_forecast_knows_nothing_of_its_own_value() -> None:
    calm, jumped = (bands(seen(Detection(CONFIG), rows(0, SECONDS, jump))) for jump in (-1, 70))
    assert np.array_equal(calm[:71], jumped[:71], equal_nan=True), "made before the jump was seen"
    assert not np.array_equal(calm[71:], jumped[71:], equal_nan=True)
    late = calm[60:]
    assert np.isfinite(late).all() and (np.diff(late, axis=1) >= 0).all()
    assert (np.abs(late[:, 1] - 5.0) < 1.0).all(), "a steady series is forecast to stay"


def test_a_restart_changes_no_forecast() -> None:
    whole = bands(seen(Detection(CONFIG), rows(0, SECONDS)))
    first = Detection(CONFIG)
    before = bands(seen(first, rows(0, 60)))
    second = Detection(CONFIG)
    second.restore(first.snapshot())
    after = bands(seen(second, rows(60, SECONDS)))
    assert np.array_equal(np.concatenate([before, after]), whole, equal_nan=True)


def test_without_a_detector_that_foretells_there_is_none() -> None:
    found = seen(Detection(DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0, detectors=("logs",))),
                 rows(0, SECONDS))
    assert found.forecast is not None and np.isnan(found.forecast).all()
    assert TenantDetection(CONFIG, 1).step([], frozenset()).observations.values.shape == (0, 0)


def test_shards_hand_it_on() -> None:
    whole = seen(Detection(CONFIG), rows(0, SECONDS))
    shard = Shard(0, CONFIG, idle_seconds=5.0)
    judged = shard._detection.step(Decoder(DecoderConfig()).decode(rows(0, SECONDS)))
    told = open_told(encode(Judgement(shard.tell(judged))))
    assert isinstance(told, Judgement)
    assert np.array_equal(bands(TenantDetection(CONFIG, 1).step([told.news], frozenset()).observations), bands(whole),
                          equal_nan=True)
