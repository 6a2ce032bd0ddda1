"""What a closed bucket shows that no detector judges, for root cause alone: the mix of what a service does, time on the
way of calls, and what its instances do one by one. As series they would cost, and alarm, as much as those that count.

| series | of | is |
|---|---|---|
| `log.template_mix` | service | how far the mix of its log templates is from the usual one |
| `log.bad_lines_per_second` | service | lines at WARN and above, or lines whose template has a word of failure, if more |
| `span.fan_out` | service | spans it makes per request |
| `span.self_seconds` | service | what it works itself on a request: its spans but for what their children cover |
| `span.mix` | service | how far the mix of these is from the usual one |
| `client.network_seconds` | call | what its client spans last longer than the spans that answer |
| `instance.*` | instance | spans and their failures, error lines; where a service has several |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from detect.buckets import Bucket
from detect.mix import Mix
from ingest.types import SeriesKey

_FAILURE: Final = re.compile(r"error|exception|fail|fatal|panic|refused|timed? ?out|traceback|unavailable", re.IGNORECASE)
_MAX_TEMPLATES: Final = 20_000
_REMEMBERED_NS: Final = 900 * 10**9
"""A service that had several instances is shown by instance for so long: also the last that is left."""
_MAX_INSTANCES: Final = 64
"""Of a service; those with the most to tell."""


class Unjudged:
    """`values(...)` of the buckets in order."""

    def __init__(self, bucket_seconds: float) -> None:
        self._seconds = bucket_seconds
        self._templates, self._spans = Mix(), Mix()
        self._of_failure: dict[str, bool] = {}
        self._several: dict[str, int] = {}  # service -> when it last showed more than one instance

    def values(self, ts_ns: int, bucket: Bucket, lines: Mapping[tuple[str, str], int],
               merged: tuple[tuple[str, str, str], ...], text: Callable[[str], str]) -> dict[SeriesKey, float]:
        """`lines`: (service, template id) -> lines of this bucket; `merged` as in BucketWindow; `text` of a template."""
        found: dict[SeriesKey, float] = {}
        self._templates.rename(merged)
        of: dict[str, dict[str, int]] = {}
        for (service, template), n in lines.items():
            of.setdefault(service, {})[template] = n
        told = self._templates.step(ts_ns, of, {service: sum(kinds.values()) for service, kinds in of.items()})
        for service, (_, far) in told.items():
            found[SeriesKey(service, "log.template_mix")] = far
        for service, kinds in of.items():
            said = sum(n for template, n in kinds.items() if self._is_of_failure(template, text))
            bad = max(said, sum(bucket.bad_logs.get(service, {}).values()))
            found[SeriesKey(service, "log.bad_lines_per_second")] = bad / self._seconds
        for service, (per_request, far) in self._spans.step(ts_ns, bucket.made, bucket.asked).items():
            found[SeriesKey(service, "span.fan_out")] = per_request
            found[SeriesKey(service, "span.mix")] = far
        self._waits(bucket, found)
        self._instances(ts_ns, bucket, found)
        return found

    def _is_of_failure(self, template: str, text: Callable[[str], str]) -> bool:
        if template not in self._of_failure:
            if len(self._of_failure) >= _MAX_TEMPLATES:
                self._of_failure.clear()
            self._of_failure[template] = _FAILURE.search(text(template)) is not None
        return self._of_failure[template]

    def _waits(self, bucket: Bucket, found: dict[SeriesKey, float]) -> None:
        for call, (seconds, calls) in sorted(bucket.waits.items()):
            service, _, peer = call.partition("\x1f")
            if calls <= 0:  # work without a request; whatever its name looks like
                continue
            if not peer:
                found[SeriesKey(service, "span.self_seconds")] = max(0.0, seconds / calls)
            else:
                found[SeriesKey(service, "client.network_seconds", peer=peer)] = max(0.0, seconds / calls)

    def _instances(self, ts_ns: int, bucket: Bucket, found: dict[SeriesKey, float]) -> None:
        of: dict[str, list[tuple[str, list[float]]]] = {}
        for name, numbers in bucket.instances.items():
            service, _, instance = name.partition("\x1f")
            of.setdefault(service, []).append((instance, numbers))
        for service, several in sorted(of.items()):
            if len(several) > 1:
                self._several[service] = ts_ns
            if ts_ns - self._several.get(service, -_REMEMBERED_NS) >= _REMEMBERED_NS:
                continue
            for instance, (spans, failed, micros, lines, error_lines) in sorted(
                    several, key=lambda one: (-one[1][0] - one[1][3], one[0]))[:_MAX_INSTANCES]:
                told = {"requests_per_second": spans / self._seconds} if spans else {}
                if spans:
                    told |= {"error_ratio": failed / spans, "latency_seconds": micros / spans / 1e6}
                if lines:
                    told["error_lines_per_second"] = error_lines / self._seconds
                for what, value in told.items():
                    found[SeriesKey(service, f"instance.{what}", instance)] = value
        for service in [s for s, seen in self._several.items() if ts_ns - seen >= _REMEMBERED_NS]:
            del self._several[service]

    def dump(self) -> dict[str, object]:
        return {"templates": self._templates.dump(), "spans": self._spans.dump(), "several": self._several}

    def load(self, state: Mapping[str, Any]) -> None:
        self._templates.load(state["templates"])
        self._spans.load(state["spans"])
        self._several = dict(state.get("several", {}))

    def __len__(self) -> int:
        return len(self._templates) + len(self._spans)
