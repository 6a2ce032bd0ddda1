"""How usual an alert is: what was told of each instance in other incidents, whoever caused these.

No cause is needed for that. An instance that raises an alert in every incident says nothing with it; one that never
did says a lot. Bounded by instances times what they say; what comes after 20,000 of both is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rootcause.alerts.case import Told

_MOST_KEYS = 20000


class History:
    """Counts of the incidents in which an instance had an alert of a kind."""

    def __init__(self) -> None:
        self.incidents = 0
        self._seen: Counter[tuple[str, str]] = Counter()

    def add(self, told: Told, sign: int = 1) -> None:
        """One more incident; `sign` -1 takes it back (to judge an incident by the others alone)."""
        self.incidents += sign
        for table in (told.kinds, told.templates, told.exact):
            for instance, counts in table.items():
                for what in counts:
                    key = (instance, what)
                    if sign < 0 or key in self._seen or len(self._seen) < _MOST_KEYS:
                        self._seen[key] += sign

    def surprise(self, instance: str, what: str) -> float:
        """-log of the share of incidents in which it had this, half an incident added; 0.7 where there are none."""
        return -math.log((max(0, self._seen[instance, what]) + 0.5) / (self.incidents + 1.0))

    def dump(self) -> dict[str, Any]:
        """Plain data for msgpack."""
        return {"incidents": self.incidents, "seen": [[i, k, n] for (i, k), n in sorted(self._seen.items()) if n > 0]}

    @classmethod
    def load(cls, data: dict[str, Any]) -> History:
        """Raises KeyError, TypeError or ValueError where it is none."""
        out = cls()
        out.incidents = int(data["incidents"])
        for instance, what, number in data["seen"][:_MOST_KEYS]:
            out._seen[str(instance), str(what)] = int(number)
        return out


def history_of(incidents: Iterable[Told]) -> History:
    """Of several incidents of one system."""
    out = History()
    for one in incidents:
        out.add(one)
    return out
