"""Programs that speak OpenTelemetry by its own SDK.

    sdk_sender.py lines URL UNTIL PER_SECOND       one service writes numbered log lines until the file UNTIL is there
    sdk_sender.py shop URL CALM_SECONDS BAD_SECONDS   three services with logs, spans, metrics; `cart` fails at the end

Prints as JSON what was sent.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # the SDK calls its own logging API deprecated

from opentelemetry import metrics, trace  # noqa: E402
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: E402
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler  # noqa: E402
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402


class Program:
    """One service's SDK: a logger, a tracer, a meter."""

    def __init__(self, name: str, url: str, **resource: str) -> None:
        described = Resource.create({"service.name": name, **resource})
        self._logs = LoggerProvider(described)
        self._logs.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs"), schedule_delay_millis=100))
        self.log = logging.getLogger(name)
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self.log.addHandler(LoggingHandler(logger_provider=self._logs))
        self._spans = TracerProvider(resource=described)
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces"),
                                                          schedule_delay_millis=200))
        self.tracer = self._spans.get_tracer("shop")
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics"), export_interval_millis=500)
        self._metrics = MeterProvider([reader], described)
        self.meter = self._metrics.get_meter("shop")

    def flush(self) -> None:
        if not self._logs.force_flush(20_000):
            raise SystemExit("the collector did not take all log lines")

    def end(self) -> None:
        self.flush()
        for provider in (self._spans, self._metrics, self._logs):
            provider.shutdown()


def lines(url: str, until: Path, per_second: float) -> dict[str, Any]:
    program = Program("numbers", url)
    count = 0
    while not until.exists():
        program.log.info("line number %d", count)
        count += 1
        time.sleep(1 / per_second)
        if count % 500 == 0:
            program.flush()
    program.end()
    return {"logs": count}


def shop(url: str, calm_seconds: float, bad_seconds: float) -> dict[str, Any]:
    programs = {name: Program(name, url) for name in ("front", "cart", "payments")}
    state = {"failed": 0.0}
    for name, program in programs.items():
        share = {"front": 0.6, "cart": 1.0, "payments": 0.0}[name]
        program.meter.create_observable_gauge(
            "http.server.error_ratio",
            [lambda _options, share=share: [metrics.Observation(0.002 + state["failed"] * share)]])
        program.meter.create_observable_gauge("process.up", [lambda _options: [metrics.Observation(1)]])
    sent, spans = 0, 0
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < calm_seconds + bad_seconds:
        is_bad = now > calm_seconds
        state["failed"] = 0.8 if is_bad else 0.0
        with programs["front"].tracer.start_as_current_span("GET /", kind=trace.SpanKind.SERVER) as root:
            programs["front"].log.info("GET / took %d ms", int(now * 7) % 30)
            for name in ("cart", "payments"):
                with programs["front"].tracer.start_as_current_span(
                        f"call {name}", kind=trace.SpanKind.CLIENT, attributes={"peer.service": name}) as call:
                    with programs[name].tracer.start_as_current_span(f"do {name}", kind=trace.SpanKind.SERVER) as done:
                        if is_bad and name == "cart":
                            programs[name].log.error("no connection to the stock table: refused %d", sent)
                            for span in (done, call, root):
                                span.set_status(trace.StatusCode.ERROR)
                        else:
                            programs[name].log.info("request %d answered", sent)
                spans += 2
        sent, spans = sent + 3, spans + 1
        time.sleep(0.05)
    for program in programs.values():
        program.end()
    return {"logs": sent, "spans": spans}


if __name__ == "__main__":
    what, url, first, second = sys.argv[1:]
    print(json.dumps(lines(url, Path(first), float(second)) if what == "lines" else shop(url, float(first), float(second))))
