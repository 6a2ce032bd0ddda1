"""What is done to incidents from outside, wherever these converge: by people, and where state was lost."""

from __future__ import annotations

from collections.abc import Sequence

from detect.convergence.converge import Convergence
from detect.types import Incident

Calls = frozenset[tuple[str, str]]


class Corrections:
    """Passes a person's word on to the convergence of its heir; each gives the incidents that it changed."""

    _convergence: Convergence

    def close_incident(self, incident_id: str, *, by: str = "", reason: str = "", now_ns: int = 0) -> list[Incident]:
        """A person said that it is none, or over."""
        return self._convergence.close(incident_id, now_ns, by=by, reason=reason)

    def split_incident(self, incident_id: str, signal_ids: set[str], new_id: str, *, by: str = "", now_ns: int = 0,
                       calls: Calls = frozenset()) -> list[Incident]:
        """A person moved these signals into an incident of their own."""
        return self._convergence.split(incident_id, signal_ids, new_id, by, now_ns, calls)

    def merge_incident(self, gone: str, into: str, *, by: str = "", now_ns: int = 0,
                       calls: Calls = frozenset()) -> list[Incident]:
        """A person merged two incidents."""
        return self._convergence.merge(gone, into, by, now_ns, calls)

    def adopt(self, incidents: Sequence[Incident]) -> None:
        """Go on with open incidents of which a lost state knew. Which of them were one run is forgotten."""
        self._convergence.adopt(incidents)

    def orphan_signals(self, now_ns: int) -> None:
        """Those who would close what is open now have forgotten it: it ends once it is told of anew, or after as long as
        a new signal may join an incident."""
        self._convergence.orphan(now_ns)
