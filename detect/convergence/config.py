"""When signals belong together."""

from __future__ import annotations

from dataclasses import dataclass, field

from detect.convergence.onsets import OnsetConfig


@dataclass(frozen=True)
class ConvergenceConfig:
    """When signals belong together."""

    eps_seconds: float = 30.0
    """Onsets further apart than this are not neighbours."""
    hop_cost: float = 0.15
    """What one hop in the call graph costs, in units of eps."""
    max_hops: int = 4
    ground_seconds: float = 12.0
    """Within this time of each other begin the signals of services under which a machine or volume fails."""
    fold_seconds: float = 10.0
    """Signals of one place whose onsets are in one bucket of this length are one point."""
    join_seconds: float = 120.0
    """A new signal next to an open incident joins it within this time of the last onset in it."""
    close_seconds: float = 10.0
    """An incident closes when all its signals have been closed this long."""
    onsets: OnsetConfig = field(default_factory=OnsetConfig)
    """When a run of chained signals is several faults."""
    min_points: int = 8
    """Folded points that a run needs before it is looked at for a second onset."""
    window_seconds: float = 1800.0
    """Onsets further back than this are settled: their signals stay where they are."""
    max_signals: int = 5_000
    """Signals looked at together; the weakest are left out first."""
    max_points: int = 20_000
    """Folded points that a run remembers; the oldest are forgotten first."""
    max_members: int = 500
    """Signals an incident holds; those that closed first leave first, then the weakest stay out."""
    max_hosts: int = 10_000
    """Services whose host is remembered."""
