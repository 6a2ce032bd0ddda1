"""What each method of `opsmend eval series` says of the series: ours as the service runs it, peers, ablations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from detect.evidence.build import answers, calibrate, collect, thresholds
from detect.evidence.calibration import Calibration
from detect.evidence.corpus import corpus
from detect.evidence.shape import STREAMS
from detect.evidence.streams import Evidence, Expects, Floats, Lstm
from detect.forecaster.lstm import Forecaster, Weights
from opsmend.evaluate.series_forecasters import Ewma, SeasonalRegression, Silent
from opsmend.evaluate.series_peers import KILOBYTES, PEERS
from opsmend.evaluate.series_scores import Labelled

OURS: Final = "opsmend"
_PEER_CORPUS: Final = 4
"""Series per step of the corpus that the peers' thresholds are set on: some are too slow for all of it."""


@dataclass(frozen=True)
class Answer:
    """Per series an onset and a state for every point, and the thresholds of both, set without labels."""

    onsets: list[Floats]
    states: list[Floats]
    plain: list[Floats]
    """The evidence of each point by itself: neither refractory nor held."""
    page: float
    flag: float
    milliseconds: float  # over all series; NaN: not measured
    kilobytes: float  # of state per series; NaN: not measured


def all_answers(series: list[Labelled]) -> Iterator[tuple[str, Answer | None]]:
    """(name, answer) of one method after the other; None for a peer that is not installed."""
    weights = Weights.load()
    made = corpus()
    lstm = _makes_lstm(weights)
    ours, seen = _ours(series, lstm, Calibration.load())
    yield OURS, ours
    small = [(ts, values[:_PEER_CORPUS]) for ts, values in made]
    for name, score in PEERS.items():
        try:
            levels = _peer_thresholds(score, [row for _, values in small for row in values])
        except ImportError:
            yield name, None
            continue
        yield name, _peer(name, score, series, *levels)
    parts = collect(lstm, made)
    for k, stream in enumerate(STREAMS):
        use = tuple(j for j in range(len(STREAMS)) if j != k)
        yield f"without {stream}", _ablated(seen, calibrate(parts, use=use), use)
    stand_ins: dict[str, Callable[[], Expects]] = {
        "EWMA for LSTM": Ewma, "regression for LSTM": SeasonalRegression, "no forecaster": Silent}
    for name, make in stand_ins.items():
        yield name, _ours(series, make, calibrate(collect(make, made)))[0]


def _makes_lstm(weights: Weights) -> Callable[[], Expects]:
    return lambda: Lstm(Forecaster(weights))


_Seen = list[tuple[Floats, Floats]]
"""Streams [n, 4] and points seen [n] of each series."""


def _ours(series: list[Labelled], make: Callable[[], Expects], calibration: Calibration) -> tuple[Answer, _Seen]:
    """The service's own class, one series after the other (their times differ, so that they share no tick)."""
    onsets, states, plain, seen = [], [], [], []
    spent = 0.0
    for one in series:
        evidence, forecaster = Evidence(calibration), make()
        n = len(one.values)
        onset, state, joined, count = (np.zeros(n) for _ in range(4))
        streams = np.zeros((n, len(STREAMS)))
        began = time.process_time()
        for k, ts in enumerate(one.ts_ns.tolist()):
            tick = evidence.step(ts, one.values[k: k + 1], forecaster)
            onset[k], state[k], joined[k], streams[k] = tick.onset[0], tick.state[0], tick.joined[0], tick.streams[0]
            count[k] = evidence.counts[0]
        spent += time.process_time() - began
        onsets.append(onset)
        states.append(state)
        plain.append(joined)
        seen.append((streams, count))
    size = Evidence.BYTES_PER_SERIES + getattr(getattr(forecaster, "forecaster", None), "BYTES_PER_SERIES", 0)
    return Answer(onsets, states, plain, calibration.page, calibration.flag, 1e3 * spent, size / 1024), seen


def _ablated(seen: _Seen, calibration: Calibration, use: tuple[int, ...]) -> Answer:
    """The same streams, some of them silenced."""
    plain = []
    for streams, counts in seen:
        some = np.zeros_like(streams)
        some[:, use] = streams[:, use]
        plain.append(calibration.joined(some, counts))
    return _held(plain, calibration.page, calibration.flag, math.nan, math.nan)


def _held(plain: list[Floats], page: float, flag: float, milliseconds: float, kilobytes: float) -> Answer:
    both = [answers(score[:, None], page) for score in plain]
    return Answer([onset[:, 0] for onset, _ in both], [state[:, 0] for _, state in both], plain, page, flag,
                  milliseconds, kilobytes)


def _peer_thresholds(score: Callable[[Floats], Floats], rows: list[Floats]) -> tuple[float, float]:
    """By the rule that ours follows, on unlabelled series."""
    return thresholds([score(row)[:, None] for row in rows])


def _peer(name: str, score: Callable[[Floats], Floats], series: list[Labelled], page: float, flag: float) -> Answer:
    began = time.process_time()
    plain = [score(one.values) for one in series]
    return _held(plain, page, flag, 1e3 * (time.process_time() - began), KILOBYTES[name])
