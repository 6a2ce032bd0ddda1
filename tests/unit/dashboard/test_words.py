"""Numbers and times as the pages write them."""

import doctest

import pytest

from ingest.types import SeriesKey
from opsmend.dashboard import words


def test_examples() -> None:
    result = doctest.testmod(words)
    assert result.attempted >= 2 and result.failed == 0


@pytest.mark.parametrize(("seconds", "said"), [
    (0, "0 s"), (0.4, "0.4 s"), (9.94, "9.9 s"), (59.6, "1 min"), (134, "2 min 14 s"), (3600, "1 h"),
    (86_400 * 9.2, "9 d 4 h"), (86_400 * 40, "40 d"), (-5, "0 s"), (float("nan"), "–")])
def test_span(seconds: float, said: str) -> None:
    assert words.span(seconds) == said


def test_an_estimate_is_never_certain() -> None:
    assert words.likely(1.0) == ">99 %" and words.likely(1e-10) == "<1 %" and words.likely(0.83) == "83 %"
    assert words.share(0.0) == "0 %" and words.share(0.002) == "0.2 %" and words.share(1.0) == "100 %"


@pytest.mark.parametrize(("name", "value", "said"), [
    ("http.server.error_ratio", 0.38, "38 %"), ("http.server.latency_p95_seconds", 0.094, "94 ms"),
    ("http.server.latency_p95_seconds", 1.9, "1.9 s"), ("process.up", 0.0, "down"), ("rss_memory", 2.5e8, "250 MB"),
    ("queue.depth", 41_200.0, "41 200")])
def test_quantities_have_their_units(name: str, value: float, said: str) -> None:
    assert words.quantity(SeriesKey("x", name), value) == said
