"""docs/forecaster.md says what the card, the code and the measurements say."""

from __future__ import annotations

import json
from pathlib import Path

from detect.forecaster.contest import CERTAINTY, DRIFT, MARGIN
from detect.forecaster.lstm import HORIZONS, MODELS_DIR, Forecaster
from detect.forecaster.shape import horizon_minutes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/forecaster.md").read_text()
CARD = json.loads((MODELS_DIR / "forecaster.json").read_text())


def test_the_quality_tables_are_those_of_the_card() -> None:
    for part in ("metrics", "metrics_recorded"):
        for method in ("opsmend", "network", "ewma", "last_value"):
            numbers = [f"{value:.4f}".lstrip("0") for value in CARD[part][method].values()]
            row = " | ".join(f"**{n}**" if method == "opsmend" else n for n in numbers)
            assert f"| {row} |" in PAGE, (part, method)


def test_sizes_margins_and_horizons() -> None:
    assert f"{Forecaster.BYTES_PER_SERIES:,} bytes" in PAGE
    assert f"at least {MARGIN:.0%} of the loss".replace("%", " %") in PAGE
    assert CERTAINTY == 2.0
    assert f"drift is {DRIFT - 1:.0%} more".replace("%", " %") in PAGE
    assert [30.0 in horizon_minutes(step) for step in (1, 10, 60, 300)] == [True] * 4
    assert ", ".join(map(str, HORIZONS[:-1])) in PAGE


def test_the_cost_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "bench/results/forecast.json").read_text())
    assert f"**{measured['ours'] / 1e6:.2f} M**" in PAGE
    variants = json.loads((ROOT / "bench/results/forecast_variants.json").read_text())
    for row in variants["rows"]:
        assert f"{row['series_steps_per_s'] / 1e6:.2f}".lstrip("0") + " M" in PAGE, row["variant"]
