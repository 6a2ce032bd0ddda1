"""An incident that is over: its rows are among the usual ones, and its culprit is not the one that is sought."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from rootcause.simulate.faults import Struck, draw_fault, draw_root, strike
from rootcause.simulate.physics import Conditions
from rootcause.simulate.topology import Floats, System


def strike_before(system: System, given: Conditions, base: int, step: float, rng: np.random.Generator) -> list[Struck]:
    """Change rows of `given` before row `base`, at most a third of them; what it left on the gauges. Empty where the kind
    that was drawn has no culprit. Of usual rows a few are bad in most recordings: nobody cuts them out."""
    fault = draw_fault(rng)
    root = draw_root(fault, system, rng)
    if root < 0:
        return []
    rows = int(rng.integers(1, max(2, min(10, base // 3))))
    begin = int(rng.integers(1, base - rows))
    kept = {f.name: getattr(given, f.name).copy() for f in fields(given)}
    marks = strike(fault, root, system, given, begin, step, rng)
    over = np.ones(len(given.load), bool)
    over[begin:begin + rows] = False
    for name, values in kept.items():
        getattr(given, name)[over] = values[over]
    for name, nothing in (("cpu_added", 0.0), ("waiting", 0.0), ("locks", 0.0), ("refused", 0.0), ("shape", 0.0),
                          ("disk_added", 0.0), ("space_added", 0.0), ("kept", 1.0),
                          ("memory_factor", 1.0), ("log_factor", 1.0)):
        left: Floats | None = getattr(marks, name)
        if left is not None:
            setattr(marks, name, np.where(over, nothing, left))
    marks.exits = False
    marks.kinds.clear()
    return [Struck(fault, root, marks)]
