"""Made-up systems with made-up faults: what the ranker is trained on. Nothing here has seen a real case."""

from rootcause.simulate.case import FAULTS, Simulated, simulate

__all__ = ["FAULTS", "Simulated", "simulate"]
