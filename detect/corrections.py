"""What people may change about incidents, wherever these converge."""

from __future__ import annotations

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
