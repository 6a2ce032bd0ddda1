"""The configuration of the detect stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from detect.convergence.converge import ConvergenceConfig
from detect.templates.miner import MinerConfig


@dataclass(frozen=True)
class DetectionConfig:
    """How detection keeps time, what it watches, and its bounds."""

    tenant: str = "default"
    bucket_seconds: float = 10.0
    """The clock: one point per series and bucket."""
    allowed_lateness_seconds: float = 5.0
    """How long a bucket waits for late rows."""
    detectors: tuple[str, ...] = ()
    """Names; empty: all."""
    limits: Mapping[str, str | float] = field(default_factory=dict)
    max_series: int = 20_000
    forecaster_dir: str = ""
    """Where promoted versions of the forecaster are kept; empty, or none there: the shipped weights."""
    miner: MinerConfig = field(default_factory=MinerConfig)
    convergence: ConvergenceConfig = field(default_factory=ConvergenceConfig)
