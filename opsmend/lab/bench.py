"""The mean time to repair, measured: faults one after the other, healed by a policy, judged by the oracle."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from opsmend.lab.backends import LabError
from opsmend.lab.faults import FAULTS, Fault, Injection
from opsmend.lab.policies import Policy, make
from opsmend.lab.scoring import Incident, ServerCounts, actions_of, judge, summarise
from opsmend.lab.system import Lab, LabConfig

_STEP_SECONDS = 0.25


@dataclass(frozen=True)
class BenchConfig:
    """How incidents are measured."""

    cap_seconds: float = 90.0
    """A fault that stands after that many seconds is unresolved (its time to repair is censored)."""
    noop_seconds: float = 30.0
    """How long a run without fault is watched."""
    good_seconds: int = 10
    """Good seconds in a row before an injection, and for a repair to count."""
    hold_seconds: float = 15.0
    """How long a repaired system is still watched: what relapses, or is undone again, was not resolved."""
    gate_seconds: float = 60.0
    """Longest wait for those before an injection; the run is void after that."""
    max_pressure: float = 90.0
    """Void if the machine's CPU pressure (PSI some, avg10) is above this, %."""


class Bench:
    """Runs incidents on one lab with one policy."""

    def __init__(self, lab: Lab, policy: Policy, config: BenchConfig | None = None) -> None:
        self._lab = lab
        self._policy = policy
        self._config = config or BenchConfig()

    def run_one(self, fault: Fault, repetition: int) -> Incident:
        """One incident, from the gate to the reset. Never raises for what a fault or a healer did."""
        lab, config = self._lab, self._config
        self._policy.settle()
        if not lab.wait_steady(config.good_seconds, config.gate_seconds):
            lab.reset()
            return Incident(fault.name, repetition, voided=True, void_reason="not steady before the injection")
        if (pressure := self._settled_pressure()) > config.max_pressure:
            return Incident(fault.name, repetition, voided=True, void_reason=f"CPU pressure {pressure:.0f} %")
        before = ServerCounts.read(lab.layout, lab.deployer)
        try:
            injection = lab.inject(fault.name)
        except LabError as error:
            lab.reset()
            return Incident(fault.name, repetition, voided=True, void_reason=str(error)[:200])
        try:
            return self._watch(fault, repetition, injection, before)
        finally:
            lab.reset()

    def _settled_pressure(self) -> float:
        """Wait for the machine to calm down, at most `gate_seconds`: somebody else's burst voids nothing."""
        until = time.monotonic() + self._config.gate_seconds
        while (pressure := cpu_pressure()) > self._config.max_pressure and time.monotonic() < until:
            time.sleep(1.0)
        return pressure

    def _watch(self, fault: Fault, repetition: int, injection: Injection, before: ServerCounts) -> Incident:
        lab, config, policy = self._lab, self._config, self._policy
        policy.begin(injection)
        breach: float | None = None
        clear: float | None = None
        servers_seen = 0.0
        resolved = False
        # Nothing is gained by waiting for the repair that there is none for.
        limit = config.cap_seconds if fault.is_repairable else config.noop_seconds
        while (elapsed := time.time() - injection.ts_ns / 1e9) < limit + config.good_seconds:
            policy.step()
            if breach is None and lab.is_breached():
                breach = elapsed
            if not servers_seen and ServerCounts.read(lab.layout, lab.deployer) != before:
                servers_seen = elapsed
            if fault.is_fault:
                is_clear = self._is_clear(injection)
                clear = (elapsed if clear is None else clear) if is_clear else None
                # What is not clear when the cap is reached can't be resolved before it any more.
                if (not is_clear or lab.good_seconds() == 0) and elapsed > limit:
                    break
                if is_clear and elapsed >= config.good_seconds and lab.is_resolved(injection, config.good_seconds):
                    resolved = True
                    break
            elif elapsed > limit:
                break
            time.sleep(_STEP_SECONDS)
        # The repair was done when the fault was gone and the good seconds began, not when they had been counted.
        good_since = time.time() - lab.good_seconds() - injection.ts_ns / 1e9
        mttr = max(0.0, clear or 0.0, good_since if breach is not None else 0.0)
        has_relapsed = resolved and self._relapses(injection)
        return self._judge(fault, repetition, injection, before, servers_seen, has_relapsed=has_relapsed,
                           resolved=resolved and not has_relapsed and mttr <= limit, mttr_seconds=mttr,
                           breach_seconds=breach)

    def _relapses(self, injection: Injection) -> bool:
        """Watch on for a while, the healer too; whether the fault is back at the end."""
        until = time.monotonic() + self._config.hold_seconds
        while time.monotonic() < until:
            self._policy.step()
            time.sleep(_STEP_SECONDS)
        return not self._is_clear(injection)

    def _is_clear(self, injection: Injection) -> bool:
        try:
            return self._lab.is_clear(injection)
        except LabError:
            return False

    def _judge(self, fault: Fault, repetition: int, injection: Injection, before: ServerCounts, servers_seen: float,
               *, resolved: bool, has_relapsed: bool, mttr_seconds: float, breach_seconds: float | None) -> Incident:
        lab = self._lab
        report = self._policy.report()
        # A release that was rolled out as the fault is the deployer's act, made before the injection's time.
        effects = [e for e in lab.effects(injection.ts_ns) if e.actor != "deployer"]
        after = ServerCounts.read(lab.layout, lab.deployer)
        actions = actions_of(effects, before, after, injection.ts_ns, servers_seen)
        false, harmful = judge(fault, actions)
        suspects = report.suspects
        ttd = max(0.0, (report.detected_ns - injection.ts_ns) / 1e9) if report.detected_ns else None
        seconds = lab.sli_window(int(time.time() - injection.ts_ns / 1e9))
        try:
            broken = tuple(lab.broken(injection))
        except LabError as error:
            broken = (str(error)[:120],)
        cap = self._config.cap_seconds
        return Incident(
            fault.name, repetition, resolved=resolved and fault.is_fault, relapsed=has_relapsed,
            breach_seconds=_rounded(breach_seconds), ttd_seconds=_rounded(ttd),
            mttr_seconds=_rounded(mttr_seconds if resolved else cap) if resolved or fault.is_repairable else None,
            censored=fault.is_repairable and not resolved, suspects=tuple((suspects or ())[:5]),
            root_top1=None if suspects is None or not fault.is_fault else suspects[:1] == (fault.root,),
            root_top3=None if suspects is None or not fault.is_fault else fault.root in suspects[:3],
            actions=actions, false_actions=false, harmful_actions=harmful,
            bad_requests=sum(s.n - s.ok for s in seconds), left_broken=broken, notes=report.notes)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def cpu_pressure() -> float:
    """PSI "some" of the CPU over ten seconds, %; 0 where the kernel does not tell."""
    try:
        fields = Path("/proc/pressure/cpu").read_text().split()
    except OSError:
        return 0.0
    return float(next((f.partition("=")[2] for f in fields if f.startswith("avg10=")), 0.0))


def run_bench(faults: Sequence[str], repeat: int = 1, policy: str | Policy = "opsmend",
              json_path: Path | None = None, *, lab_config: LabConfig | None = None,
              config: BenchConfig | None = None, show: bool = True) -> dict[str, Any]:
    """Measure `repeat` incidents of each fault (empty: all that can be made here), one lab, one policy.

    Returns `{"policy", "complete", "incidents", "summary", "skipped"}` and writes it to `json_path`. Raises LabError if
    a fault is not known, or if nothing was measured: no incident, or none that is not void.
    Cost: about 40 s plus the time to repair for each incident.
    """
    if unknown := sorted(set(faults) - set(FAULTS)):
        raise LabError(f"no fault '{unknown[0]}'; there are {', '.join(FAULTS)}")
    healer = make(policy) if isinstance(policy, str) else policy
    console = Console(stderr=True, quiet=not show)
    incidents: list[Incident] = []
    with Lab(lab_config or LabConfig(lock_wait_seconds=300.0)) as lab:
        off = {name: why for name, why in lab.faults().items() if why}
        wanted = [name for name in (faults or FAULTS) if name not in off]
        if not lab.wait_steady():
            raise LabError("the lab did not become steady; is the machine busy?")
        try:
            healer.start(lab)
            bench = Bench(lab, healer, config)
            with Progress(console=console, disable=not show) as progress:
                task = progress.add_task(healer.name, total=len(wanted) * repeat)
                for repetition in range(repeat):
                    for name in wanted:
                        incidents.append(_one(bench, name, repetition, progress, task))
                        _write(json_path, _result(healer, incidents, off, is_complete=False))
        finally:
            healer.stop()
    if all(i.voided for i in incidents):
        raise LabError("nothing was measured: " + (incidents[0].void_reason if incidents else "no fault can be made"))
    result = _result(healer, incidents, off, is_complete=True)
    _write(json_path, result)
    return result


def _result(policy: Policy, incidents: Sequence[Incident], off: dict[str, str], *, is_complete: bool) -> dict[str, Any]:
    return {"policy": policy.name, "complete": is_complete, "incidents": msgspec.to_builtins(incidents),
            "summary": summarise(incidents, FAULTS), "skipped": off}


def _write(json_path: Path | None, result: dict[str, Any]) -> None:
    """After every incident: a long run that is cut off leaves what it measured, marked as not complete."""
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result, indent=1) + "\n")


def _one(bench: Bench, name: str, repetition: int, progress: Progress, task: TaskID) -> Incident:
    progress.update(task, description=f"{name} #{repetition + 1}")
    incident = bench.run_one(FAULTS[name], repetition)
    outcome = "void" if incident.voided else "resolved" if incident.resolved else (
        "unresolved" if FAULTS[name].is_repairable else "left alone" if FAULTS[name].is_fault and not incident.actions
        else "disturbed" if incident.actions else "quiet")
    done = ", ".join(f"{a.verb} {a.target}" for a in incident.actions) or "no action"
    progress.console.print(f"{name:16} {outcome:10} detected {incident.ttd_seconds} s, "
                           f"mended {incident.mttr_seconds} s, {done}")
    progress.advance(task)
    return incident


def table(result: dict[str, Any]) -> Table:
    """A result of `run_bench` for people."""
    columns = ("fault", "outcome", "breach s", "TTD s", "MTTR s", "suspect", "actions", "false", "harmful")
    grid = Table(*columns, title=f"policy {result['policy']}")
    for i in result["incidents"]:
        outcome = "void" if i["voided"] else "mended" if i["resolved"] else (
            "left alone" if not FAULTS[i["fault"]].is_repairable and not i["actions"] else "–")
        cells = (i["fault"], outcome, i["breach_seconds"], i["ttd_seconds"], i["mttr_seconds"],
                 ", ".join(i["suspects"][:1]), ", ".join(f"{a['verb']} {a['target']}" for a in i["actions"]),
                 i["false_actions"], i["harmful_actions"])
        grid.add_row(*("" if c is None else str(c) for c in cells))
    grid.caption = ", ".join(f"{k} {v}" for k, v in result["summary"].items() if v is not None)
    return grid
