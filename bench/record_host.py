"""Record this machine's own counters once a second: `python bench/record_host.py --seconds N FILE.safetensors`.

Made `detect/forecaster/recorded.safetensors`, on which the forecaster is trained beside made-up series. Counters are
kept as rates, gauges as they are; what never moves is left out. Values are rounded to 16 bits of their range.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MEMORY = ("MemFree", "MemAvailable", "Buffers", "Cached", "Active", "AnonPages", "Dirty", "Mapped", "Slab", "PageTables")
_VM = ("pgpgin", "pgpgout", "pgfault", "pgmajfault", "pgfree", "pgalloc_normal", "pgactivate", "nr_dirtied", "nr_written")
_CPU = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def counters() -> Iterator[tuple[str, float]]:
    """Ever-growing numbers of /proc."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == "cpu":
            yield from ((f"cpu.{key}", float(v)) for key, v in zip(_CPU, numbers, strict=False))
        elif name in ("ctxt", "processes"):
            yield f"stat.{name}", float(numbers[0])
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, number = line.split()
        if name in _VM:
            yield f"vm.{name}", float(number)
    for line in Path("/proc/net/dev").read_text().splitlines():
        device, colon, counts = line.partition(":")
        if colon:
            parts = counts.split()
            yield from ((f"net.{device.strip()}.{key}", float(parts[at])) for key, at in (("rx", 0), ("tx", 8)))
    for line in Path("/proc/diskstats").read_text().splitlines():
        parts = line.split()
        if parts[3] != "0" and not parts[2].startswith("loop"):
            yield from ((f"disk.{parts[2]}.{key}", float(parts[at]))
                        for key, at in (("reads", 3), ("writes", 7), ("io_ms", 12)))


def gauges() -> Iterator[tuple[str, float]]:
    """Numbers of the moment."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, number = line.split()[:2]
        if name[:-1] in _MEMORY:
            yield f"memory.{name[:-1]}", float(number)
    load = Path("/proc/loadavg").read_text().split()
    yield "load1", float(load[0])
    yield "threads", float(load[3].split("/")[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    rows, start = [], time.time()
    for k in range(arguments.seconds + 1):
        time.sleep(max(0.0, start + k - time.time()))
        rows.append((dict(counters()), dict(gauges())))
    names = sorted(rows[0][0])
    rates = np.diff(np.array([[row[0].get(name, np.nan) for name in names] for row in rows]), axis=0)
    levels = sorted(rows[0][1])
    write(arguments.out, [*names, *levels],
          np.concatenate([rates, np.array([[row[1].get(n, np.nan) for n in levels] for row in rows[1:]])], axis=1), start)


def write(out: Path, names: list[str], values: np.ndarray, start: float) -> None:
    """`values` [t, n]; series that never move, or have holes, are left out."""
    from safetensors.numpy import save_file

    kept = np.flatnonzero(np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0)
                          & ((np.diff(values, axis=0) != 0).mean(axis=0) > 0.02))
    values = values[:, kept]
    low, wide = values.min(axis=0), np.ptp(values, axis=0)
    steps = np.round((values - low) / wide * 65_535).astype(np.uint16)
    save_file({"values": np.ascontiguousarray(steps.T), "low": low, "wide": wide}, str(out),
              {"names": json.dumps([names[i] for i in kept]), "start": str(int(start)), "step": "1"})


if __name__ == "__main__":
    main()
