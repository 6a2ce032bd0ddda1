"""Which repair, if any: typed preconditions, rules, incident memory, a model, in this order."""

from remediate.planner.planner import Planner, PlannerConfig
from remediate.planner.types import NoPlan, PlanResult

__all__ = ["NoPlan", "PlanResult", "Planner", "PlannerConfig"]
