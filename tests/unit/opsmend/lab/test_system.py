"""What the lab configures opsmend with."""

from __future__ import annotations

from pathlib import Path

from detect.limits import Limit, limits_of
from ingest.types import SeriesKey
from opsmend.compose import pipeline_config
from opsmend.config import load
from opsmend.lab import topology
from opsmend.lab.layout import Layout, Ready
from opsmend.lab.policies import to_toml
from opsmend.lab.system import Lab, LabConfig


def test_memory_has_a_limit_where_the_supervisor_kills_and_nowhere_else(tmp_path: Path) -> None:
    lab = Lab(LabConfig())
    lab._layout, lab._ready = Layout(tmp_path), Ready("unix:///x.sock", "http://x", "", "", 1)
    path = tmp_path / "opsmend.toml"
    path.write_text(to_toml(lab.opsmend_config()))
    limits = pipeline_config(load(path)).detection.limits
    series = tuple(SeriesKey(s, "process.memory.rss", f"{s}-1") for s in (*topology.SERVICES, *topology.BACKENDS))
    assert limits_of(series, tuple(limits.items())) == tuple(
        Limit(key, float(topology.MEMORY_LIMIT_BYTES)) for key in series if key.service in topology.SERVICES)
