"""What people may change about incidents, wherever these converge."""

from __future__ import annotations

from detect.convergence.converge import Convergence


class Corrections:
    """Passes a person's word on to the convergence of its heir."""

    _convergence: Convergence

    def close_incident(self, incident_id: str) -> None:
        """A person said that it is none, or over."""
        self._convergence.close(incident_id)

    def split_incident(self, incident_id: str, signal_ids: set[str], new_id: str) -> None:
        """A person moved these signals into an incident of their own."""
        self._convergence.split(incident_id, signal_ids, new_id)

    def merge_incident(self, gone: str, into: str) -> None:
        """A person merged two incidents."""
        self._convergence.merge(gone, into)
