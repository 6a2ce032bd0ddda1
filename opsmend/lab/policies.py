"""Who heals during a bench: nobody, three simple-minded baselines, the oracle, or opsmend itself."""

from __future__ import annotations

import contextlib
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import msgspec

from opsmend.lab import topology
from opsmend.lab.backends import LabError
from opsmend.lab.faults import Injection
from opsmend.lab.system import Lab

_PATIENCE_SECONDS = 12.0
"""How long the simple-minded wait for an action to help before they try the next."""


@dataclass
class Report:
    """What a policy found out about the current incident."""

    detected_ns: int = 0
    """Wall clock; 0: not detected."""
    suspects: tuple[str, ...] | None = None
    """Named root causes, best first; None: the policy names none."""
    notes: tuple[str, ...] = ()
    """What it planned and did, and why not, in words."""


class Policy(Protocol):
    """One healer. `step` is called some four times a second from `begin` on."""

    name: str

    def start(self, lab: Lab) -> None:
        """Once, before the first incident; the lab is steady."""

    def settle(self) -> None:
        """Before each injection: return when what went before is over, after a bounded time."""

    def begin(self, injection: Injection) -> None: ...
    def step(self) -> None: ...
    def report(self) -> Report: ...
    def stop(self) -> None: ...


@dataclass
class NoPolicy:
    """Does nothing."""

    name: str = "none"
    _lab: Lab | None = None
    _report: Report = field(default_factory=Report)
    _injection: Injection | None = None

    @property
    def lab(self) -> Lab:
        if self._lab is None:
            raise LabError("the policy was not started")
        return self._lab

    def start(self, lab: Lab) -> None:
        self._lab = lab

    def settle(self) -> None:
        return None

    def begin(self, injection: Injection) -> None:
        self._injection, self._report = injection, Report()

    def step(self) -> None:
        if not self._report.detected_ns and self.lab.is_breached():
            self._report.detected_ns = time.time_ns()

    def report(self) -> Report:
        return self._report

    def stop(self) -> None:
        return None


@dataclass
class OraclePolicy(NoPolicy):
    """Knows the fault and repairs it at once: the bound on what is possible."""

    name: str = "oracle"

    def begin(self, injection: Injection) -> None:
        super().begin(injection)
        self._report = Report(time.time_ns())
        self.lab.heal_by_oracle(injection.fault)


@dataclass
class RandomPolicy(NoPolicy):
    """Once the customers complain: any verb on any service, again and again."""

    name: str = "random"
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    _next: float = 0.0
    _usual: dict[str, float] = field(default_factory=dict)

    def begin(self, injection: Injection) -> None:
        super().begin(injection)
        self._next = 0.0

    def step(self) -> None:
        super().step()
        if self.lab.is_breached() and time.monotonic() >= self._next:
            verb, service = self.choose()
            self.act(service, verb)
            self._next = time.monotonic() + _PATIENCE_SECONDS

    def choose(self) -> tuple[str, str]:
        service = self.rng.choice([s for s in topology.SERVICES if s not in topology.EXTERNAL])
        return self.rng.choice(["restart", "kill", "rollback", "scale"]), service

    def act(self, service: str, verb: str) -> None:
        body = {"key": str(uuid.uuid4()), "instances": 2}
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{self.lab.actuator_tcp_url}/v1/services/{service}/{verb}", json=body, timeout=20.0,
                       headers={"authorization": f"Bearer {self.lab.ready.control_token}"})


@dataclass
class RestartLoudest(RandomPolicy):
    """Once the customers complain: restart whoever shows the most errors, or else the most added latency."""

    name: str = "restart-loudest"

    def start(self, lab: Lab) -> None:
        super().start(lab)
        self._usual = self._values("http.server.latency_p95_seconds")

    def _values(self, name: str) -> dict[str, float]:
        values = msgspec.json.decode(self.lab.layout.latest.read_bytes())["values"]
        return {key.split("/")[0]: value for key, value in values.items() if key.split("/")[1] == name}

    def choose(self) -> tuple[str, str]:
        errors = {s: v for s, v in self._values("http.server.error_ratio").items() if s not in topology.EXTERNAL}
        if errors and max(errors.values()) > 0.02:
            return "restart", max(sorted(errors), key=lambda s: errors[s])
        slow = {s: v / max(1e-3, self._usual.get(s, v))
                for s, v in self._values("http.server.latency_p95_seconds").items() if s not in topology.EXTERNAL}
        return "restart", max(sorted(slow), key=lambda s: slow[s]) if slow else "gateway"


def to_toml(document: dict[str, object]) -> str:
    """A settings document as TOML: one table per section, everything deeper inline."""

    def value(v: object) -> str:
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(x)}" for k, x in v.items()) + " }"
        if isinstance(v, (list, tuple)):
            return "[" + ", ".join(map(value, v)) + "]"
        return json.dumps(v)  # strings, numbers and booleans are written alike

    sections = []
    for section, table in document.items():
        assert isinstance(table, dict)
        sections.append("\n".join([f"[{section}]", *(f"{json.dumps(k)} = {value(v)}" for k, v in table.items())]))
    return "\n\n".join(sections) + "\n"


def make(name: str) -> Policy:
    """A policy by name. Raises LabError with the names there are."""
    from opsmend.lab.policy_opsmend import OpsmendPolicy

    policies: dict[str, type[Policy]] = {
        "none": NoPolicy, "restart-loudest": RestartLoudest, "random": RandomPolicy, "oracle": OraclePolicy,
        "opsmend": OpsmendPolicy}
    if name not in policies:
        raise LabError(f"no policy '{name}'; there are {', '.join(policies)}")
    return policies[name]()
