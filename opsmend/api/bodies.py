"""What state-changing requests carry."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from opsmend.causes import Culprit


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: str = Field("", max_length=80, description="who asks; else the header X-Opsmend-By")


class DecisionBody(_Body):
    """Approve or reject exactly the plan with this hash."""

    decision: Literal["approve", "reject"]
    plan_hash: str = Field(min_length=6, max_length=128)
    reason: str = Field("", max_length=2000)


class RepairsBody(_Body):
    """The mode and the kill switch; what is left out stays as it is."""

    mode: Literal["observe", "suggest", "auto"] | None = None
    stopped: bool | None = None


class CloseBody(_Body):
    """Not an incident, or done."""

    reason: str = Field("", max_length=2000, description="stays with the incident, as `closed_reason`")


class SplitBody(_Body):
    """The signals that go into an incident of their own."""

    signal_ids: list[str] = Field(min_length=1, max_length=10_000)


class MergeBody(_Body):
    """The open incident to merge into."""

    into: str = Field(min_length=1, max_length=64)


class CulpritBody(BaseModel):
    """A service, host or volume; with `peer` the calls from the service to that one, with `instance` that one of it."""

    model_config = ConfigDict(extra="forbid")
    service: str = Field("", max_length=500)
    peer: str = Field("", max_length=500)
    instance: str = Field("", max_length=500)


class CauseBody(CulpritBody):
    """What was at fault, and in `also` what else was at the same time. Or `nothing`: there was no fault."""

    by: str = Field("", max_length=80, description="who asks; else the header X-Opsmend-By")
    also: list[CulpritBody] = Field(default=[], max_length=9)
    nothing: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        more = bool(self.peer or self.instance or self.also)
        if self.nothing == bool(self.service) or (more and not self.service) or not all(c.service for c in self.also):
            raise ValueError("say which service was at fault, or that nothing was")
        return self

    @property
    def culprits(self) -> list[Culprit]:
        return [Culprit(c.service, c.peer, c.instance) for c in (self, *self.also) if c.service]


class CancelBody(_Body):
    """Stop a run before its next step."""
