"""What surrounds the compiled loop of `json_scan`: its tables in, its columns out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ingest.types import Int32, Int64, Texts

_PARTS: Final = ("", "message", "time", "level", "service", "instance", "trace_id")
"""The numbers of json_scan's roles."""
_MOST_FIELDS: Final = 62
_DISTINCT: Final = 2048


@dataclass(frozen=True)
class Scanned:
    """Columns of n lines; `level`, `service` and `instance` index the texts beside them (all 0 where there are none)."""

    text: Texts
    ts_ns: Int64
    level: Int32
    levels: list[str]
    service: Int32
    services: list[str]
    instance: Int32
    instances: list[str]
    trace_id: list[str] | None


class Scanner:
    """For lines with just the fields `keys`, of which `always` may not be missing; `parts` says what some are for."""

    def __init__(self, keys: Sequence[str], parts: Mapping[str, str], always: Set[str], *, is_native: bool) -> None:
        self._is_possible = len(keys) <= _MOST_FIELDS and all(k.isprintable() and not set(k) & {'"', "\\"} for k in keys)
        self._key_bytes = np.frombuffer("".join(keys).encode() or b"\0", np.uint8)
        self._offsets = np.cumsum([0, *(len(k.encode()) for k in keys)]).astype(np.int64)
        roles = [_PARTS.index(parts.get(k, "")) for k in keys]
        if is_native:
            roles[list(keys).index("type")] = 7
        self._roles = np.array(roles, np.int64)
        self._needed = sum(1 << i for i, key in enumerate(keys) if key in always)
        self._has_trace = "trace_id" in parts.values()
        self._constant = np.frombuffer(b"log", np.uint8)

    def scan(self, block: bytes) -> Scanned | None:
        """None if a line can't be taken here. Empty lines are none."""
        scan = _compiled()
        if scan is None or not self._is_possible:
            return None
        buffer = np.frombuffer(block, np.uint8)
        most = int(np.count_nonzero(buffer == 10)) + 1
        message, offsets = np.empty(len(block), np.uint8), np.empty(most + 1, np.int64)
        ts_ns, interned, trace = np.empty(most, np.int64), np.empty((3, most), np.int32), np.empty((2, most), np.int64)
        starts, ends, distinct = np.empty((3, _DISTINCT), np.int64), np.empty((3, _DISTINCT), np.int64), np.zeros(3, np.int64)
        n = scan(buffer, self._key_bytes, self._offsets, self._roles, self._needed, self._constant, message, offsets, ts_ns,
                 interned, starts, ends, distinct, trace)
        if n <= 0:
            return None
        interned, trace = np.maximum(interned[:, :n], 0), trace[:, :n]

        def texts(which: int) -> list[str]:
            count = int(distinct[which])
            places = zip(starts[which, :count].tolist(), ends[which, :count].tolist(), strict=True)
            return [block[a:b].decode() for a, b in places]

        trace_id = [block[a:b].decode() for a, b in trace.T.tolist()] if self._has_trace else None
        return Scanned(Texts(message[:offsets[n]], offsets[:n + 1]), ts_ns[:n], interned[0], texts(0), interned[1], texts(1),
                       interned[2], texts(2), trace_id)


def _compiled() -> Any:
    """The loop; None where numba is absent: as plain Python it would be slower than the decoder it stands in for."""
    from ingest.wire.json_scan import scan

    return scan if hasattr(scan, "py_func") else None
