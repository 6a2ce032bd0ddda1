"""What goes to a model and what comes back.

Nothing in a request is free text. Names that come out of telemetry (services, hosts, versions, log
templates) are attacker-writable, so a request carries them only as an `Entity.name`, which the prompt
replaces by an alias (`e1`, `e2`, ...); the answer's alias is translated back. Everything that is
written into the prompt is either our own catalogue or a word of `WORD` shape or a number.
"""

from __future__ import annotations

import re
from typing import Final, Literal, Protocol

import msgspec

NoChoiceReason = Literal[
    "abstained",  # the model answered "none"
    "budget",  # today's tokens or money are spent; no call was made
    "timeout",
    "length",  # the answer was cut off
    "invalid_answer",  # not JSON, not of the schema, or not one of the options
    "unreachable",  # no connection, or the endpoint answered with an error
    "refused",  # the endpoint does not accept the request (key, model name, schema)
    "invalid_request",  # the request itself holds something that may not reach a prompt
    "not_installed",  # the extra that the provider needs is missing
]

WORD: Final = re.compile(r"[a-z][a-z0-9_.-]{0,47}")
"""Shape of every typed word in a prompt: signal kinds, entity kinds, relations, action names."""


class LlmError(Exception):
    """A model could not be asked, or its answer can't be used. `reason` is a bounded word."""

    def __init__(self, reason: NoChoiceReason, message: str) -> None:
        super().__init__(message)
        self.reason: NoChoiceReason = reason


class Option(msgspec.Struct, frozen=True):
    """One eligible action. `targets` are names of entities in the request; `title` is the catalogue's."""

    action: str
    title: str
    targets: tuple[str, ...]
    is_reversible: bool = False
    risk: Literal["low", "medium", "high"] = "high"
    disruption: int = 3  # 0 nothing noticeable .. 3 an outage of the target
    successes: int = 0  # how often it fixed this fault signature here
    trials: int = 0


class Entity(msgspec.Struct, frozen=True):
    """A service or an edge. `name` never reaches the prompt; `kind` (service, database, cache, edge,
    external) does."""

    name: str
    kind: str
    probability: float = 0.0  # 0..1, that it is the cause


class Fact(msgspec.Struct, frozen=True):
    """A typed observation about an entity: `kind` is a signal kind or `change.<kind>`."""

    entity: str
    kind: str
    score: float = 0.0  # 0..1, 1 is worst
    age_seconds: float = 0.0  # before the moment of planning
    template_id: str = ""  # for the cache key alone; never in the prompt
    value: float | None = None
    usual: float | None = None


class ChoiceRequest(msgspec.Struct, frozen=True):
    """Which of `options` repairs the incident that `entities`, `calls` and `facts` describe?"""

    catalogue_version: str
    policy_version: str
    options: tuple[Option, ...]
    entities: tuple[Entity, ...]
    facts: tuple[Fact, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()  # (caller, callee) by entity name


class Choice(msgspec.Struct, frozen=True):
    """An option that was picked, checked against the request. Tokens and USD are 0 for a cache hit."""

    action: str
    target: str
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    is_cached: bool = False


class NoChoice(msgspec.Struct, frozen=True):
    """No plan from the model, and why. The caller goes on with what it had without the model."""

    reason: NoChoiceReason
    detail: str = ""


class LlmClient(Protocol):
    """Asks a model to choose. Never raises for what a model or network does: that is a NoChoice."""

    async def choose(self, request: ChoiceRequest) -> Choice | NoChoice: ...


class Completion(msgspec.Struct, frozen=True):
    """A provider's raw answer. Tokens are None where the endpoint does not report them."""

    text: str
    is_cut_off: bool
    tokens_in: int | None
    tokens_out: int | None


class Provider(Protocol):
    """One way to reach one model. Raises LlmError; stops by itself after its time-out."""

    @property
    def model(self) -> str:
        """Identifies the model in cache keys and plans."""

    async def complete(self, *, system: str, user: str, schema: dict[str, object],
                       max_tokens: int) -> Completion: ...

    async def aclose(self) -> None: ...
