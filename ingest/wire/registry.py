"""The wire formats, in the order in which they are tried. A new one is a file and a line here."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol, cast

from ingest.errors import OpsmendError
from ingest.wire import (
    alertmanager,
    alertmanager_v2,
    cri,
    fluent_bit_msgpack,
    influx_line,
    native,
    otlp_json,
    otlp_proto,
    plain,
    prometheus_remote_write,
    syslog,
)
from ingest.wire.routing import OBJECT_FORMATS
from ingest.wire.rows import DecodeContext, Rows


class WireFormat(Protocol):
    """A module with these names."""

    NAME: str

    def recognise(self, value: bytes, context: DecodeContext) -> bool: ...
    def decode(self, value: bytes, context: DecodeContext, rows: Rows) -> None:
        """Append what the bytes hold to `rows`; raise DecodeError and nothing else."""


_MODULES: tuple[ModuleType, ...] = (
    otlp_proto, prometheus_remote_write, otlp_json, alertmanager, alertmanager_v2,
    *OBJECT_FORMATS,
    native, fluent_bit_msgpack, cri, syslog, influx_line, plain)
FORMATS: dict[str, WireFormat] = {m.NAME: cast(WireFormat, m) for m in _MODULES}


def format_named(name: str) -> WireFormat:
    """Raises OpsmendError (reason "configuration") with the known names."""
    if name not in FORMATS:
        raise OpsmendError(f"unknown wire format '{name}'; one of auto, {', '.join(FORMATS)}", reason="configuration")
    return FORMATS[name]
