"""What a cluster keeps of a made-up system, minute by minute: metrics of each service, and logs, templates and spans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.made_rows import write_table
from bench.made_system import Fault, Minute, System

_MOST_TEMPLATES = 200  # per service and minute, as recorded sets have it


class Gauges:
    """Metrics of each service, as a cluster keeps them; which are missing is a matter of luck."""

    def __init__(self, system: System, rng: np.random.Generator, kind: str, seconds: int = 60) -> None:
        """`seconds` from row to row."""
        n = len(system.names)
        self._seconds, self._kind = seconds, kind
        self._rng, self._n = rng, n
        self._cpu, self._memory = rng.lognormal(-3, 0.8, n), rng.lognormal(5.5, 0.5, n)
        self._level = self._memory.copy()
        self._per_work = rng.uniform(0.2, 2, n)
        latency = kind != "large" or rng.random() < 0.5
        names = ["cpu", "cpu_rate", "mem", "net_rx", "net_tx", "workload", "success", "node_cpu"]
        names += ["server_lat_90", "server_lat_95", "client_lat_95"] if latency else []
        self._kept = [(i, name) for i in range(n) for name in names if rng.random() < 0.95 or kind == "small"]
        self.columns = [f"{system.names[i]}|{name}" for i, name in self._kept]
        self._counts_errors = kind != "large" or rng.random() < 0.3
        self._edges = system.edges if kind == "second_day" and rng.random() < 0.7 else ()
        self.columns += [f"{system.names[b]}|edge_{end}_p50__from_{system.names[a]}" for a, b in self._edges
                         for end in ("source", "destination")]

    def copy(self, twin: int, of: int) -> None:
        """The new version takes at rest what the old one does: it does the same."""
        for values in (self._cpu, self._memory, self._level, self._per_work):
            values[twin] = values[of]

    def row(self, time: float, minute: Minute, fault: Fault | None, grown: float = 0.0) -> list[str]:
        """`grown`: how much of a leak there is by now, 0..1."""
        rng = self._rng
        noise = np.exp(rng.normal(0, 0.12, self._n))
        wild = np.where(rng.random(self._n) < 0.02, rng.lognormal(0.3, 0.5, self._n), 1.0)
        cells = []
        for i, name in self._kept:
            asked = minute.asked[i]
            mine = fault is not None and fault.service == i
            seconds = minute.seconds[i] / asked if asked else np.nan
            waits = minute.waits[i] / minute.calls[i] if minute.calls[i] else np.nan  # for whom it calls
            value = np.nan
            if name.startswith("cpu"):
                value = (self._cpu[i] * wild[i] + self._per_work[i] * minute.work[i] / self._seconds) * noise[i]
                value += 0.3 * rng.uniform(0.5, 1.5) if fault is not None and mine and fault.kind == "cpu_contention" else 0.0
            elif name == "mem":
                self._memory[i] *= float(np.exp(rng.normal(0, 0.002)))
                if self._kind == "small":  # rows of seconds: collected or started anew now and then, else about where it was
                    self._memory[i] *= (self._level[i] / self._memory[i]) ** 0.01
                    self._memory[i] *= float(rng.uniform(0.85, 1.1)) if rng.random() < 0.004 else 1.0
                value = self._memory[i]
                if fault is not None and mine and fault.kind == "memory_leak":
                    value *= 1 + (fault.size - 1) * grown
            elif name.startswith("net"):
                value = 900 * asked * noise[i] + 3000
            elif name == "workload":
                value = asked / self._seconds
            elif name == "success":
                value = 1 - (minute.failed[i] / asked if asked and self._counts_errors else 0.0)
            elif name == "node_cpu":
                value = 20 * noise[i]
            else:
                value = (waits if "client" in name else seconds) * (1.6 if "95" in name else 1.3) * noise[i]
            cells.append("" if not np.isfinite(value) else f"{value:.6g}")
        for edge in self._edges:
            calls, waited, served = minute.between.get(edge, (0, 0.0, 0.0))
            cells += [f"{0.7 * total / calls * float(np.exp(rng.normal(0, 0.08))):.6g}" if calls else ""
                      for total in (waited, served)]
        return [f"{time:.0f}", *cells]


def write_modalities(folder: Path, minutes: dict[int, Minute], system: System, pattern: str) -> None:
    """Files of spans, lines and templates by minute (unix seconds); `pattern` has {} where the kind goes."""
    spans, lines, templates = [], [], []
    for at, minute in sorted(minutes.items()):
        for (caller, callee, name), (n, seconds) in sorted(minute.spans.items()):
            mean = 1e6 * seconds / n
            spans.append([at, caller, callee, name, int(n), *(f"{times * mean:.6g}" for times in (1, 0.8, 2, 4))])
        for i, service in enumerate(system.names):
            mine = sorted(((k, text) for (s, text), k in minute.lines.items() if s == i and k), reverse=True)
            if mine:
                bad = minute.bad[i]
                lines.append([at, service, sum(k for k, _ in mine), bad // 2, bad, len(mine)])
            templates += [[at, service, text, k] for k, text in mine[:_MOST_TEMPLATES]]
    write_table(folder / f"{pattern.format('traces')}.csv",
                ["time", "caller", "callee", "operation", "n", "mean_us", "p50_us", "p95_us", "max_us"], spans)
    write_table(folder / f"{pattern.format('logs')}.csv",
                ["time", "service", "n_lines", "n_level_warn_err", "n_err_words", "n_templates"], lines)
    write_table(folder / f"{pattern.format('log_templates')}.csv", ["time", "service", "template", "n"], templates)
