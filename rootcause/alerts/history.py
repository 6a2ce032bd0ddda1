"""How usual an alert is: what was told of each instance in other incidents, whoever caused these.

No cause is needed for that. An instance that raises an alert in every incident says nothing with it; one that never
did says a lot. Bounded by instances times what they say; what comes after 20,000 of both is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rootcause.alerts.case import AlertCase, Served, Told, served_in, told

_MOST_KEYS = 20000


class History:
    """Counts of the incidents in which an instance had an alert of a kind; `served`: who serves which call."""

    def __init__(self, served: Served | None = None) -> None:
        self.served: Served = served or {}
        self.incidents = 0
        self._seen: Counter[tuple[str, str]] = Counter()
        self._different: Counter[tuple[str, str]] = Counter()

    def add(self, said: Told, sign: int = 1) -> None:
        """One more incident; `sign` -1 takes it back."""
        self.incidents += sign
        for table in (said.kinds, said.templates, said.exact):
            for instance, counts in table.items():
                for what in counts:
                    key = (instance, what)
                    if sign < 0 or key in self._seen or len(self._seen) < _MOST_KEYS:
                        self._count(key, sign)

    def _count(self, key: tuple[str, str], number: int) -> None:
        before = self._seen[key] > 0
        self._seen[key] += number
        if "|" in key[1]:
            self._different[key[0], key[1].partition("|")[0]] += int(self._seen[key] > 0) - int(before)

    @contextmanager
    def without(self, case: AlertCase) -> Iterator[Told]:
        """What was told of a counted incident, which does not count meanwhile: it is judged by the others alone."""
        said = told(case, self.served)
        self.add(said, -1)
        try:
            yield said
        finally:
            self.add(said)

    def surprise(self, instance: str, what: str) -> float:
        """-log of the share of incidents in which it had this, half an incident added; 0.7 where there are none."""
        return -math.log((max(0, self._seen[instance, what]) + 0.5) / (self.incidents + 1.0))

    def variety(self, instance: str, kind: str) -> int:
        """How many different exact alerts of a kind it ever had."""
        return self._different[instance, kind]

    def dump(self) -> dict[str, Any]:
        """Plain data for msgpack."""
        return {"incidents": self.incidents, "seen": [[i, k, n] for (i, k), n in sorted(self._seen.items()) if n > 0],
                "served": [[caller, what, sorted(who)] for (caller, what), who in sorted(self.served.items())]}

    @classmethod
    def load(cls, data: dict[str, Any]) -> History:
        """Raises KeyError, TypeError or ValueError where it is none."""
        out = cls({(str(caller), str(what)): frozenset(map(str, who)) for caller, what, who in data["served"]})
        out.incidents = int(data["incidents"])
        for instance, what, number in data["seen"][:_MOST_KEYS]:
            out._count((str(instance), str(what)), int(number))
        return out


def history_of(incidents: Iterable[AlertCase]) -> History:
    """Of several incidents of one system."""
    cases = tuple(incidents)
    out = History(served_in(cases))
    for case in cases:
        out.add(told(case, out.served))
    return out
