"""The end of the distributed engine: what packers and shards tell of a tenant, to incidents and diagnoses.

It is run by `LocalRunner` as any pipeline is: state, results and the position in `opsmend.signals` are one
transaction of the store, so that a judgement counts once whoever dies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from detect.tenant import ShardNews, TenantDetection
from ingest.types import Change, DeadLetter, Record, Watermark
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.quix_envelope import EnvelopeError, Packed, open_told
from opsmend.store.records import StepResult


class TenantPipeline(Pipeline):
    """`step(records)` over records of `opsmend.signals`."""

    def __init__(self, config: PipelineConfig, shards: int, *,
                 on_diagnosed: Callable[[float], None] = lambda seconds: None) -> None:
        self._tenant = TenantDetection(config.detection, shards)
        super().__init__(config, on_diagnosed=on_diagnosed, detection=self._tenant)

    def step(self, records: Sequence[Record]) -> StepResult:
        """Put together what was told, converge, diagnose. The caller commits what comes back."""
        totals: Counter[str] = Counter()
        dead: list[DeadLetter] = []
        changes: list[Change] = []
        news: list[ShardNews] = []
        self.graph = self._graph_builder.graph()
        for record in records:
            try:
                told = open_told(record.value)
            except EnvelopeError as error:
                totals["dead"] += 1
                dead.append(DeadLetter(record.topic, record.partition, record.offset, record.timestamp_ms, error.reason,
                                       str(error)[:500], record.value))
                continue
            dead += told.dead_letters
            if isinstance(told, Packed):
                totals.update(told.totals)
                changes += told.changes
                self.graph = self._graph_builder.learn(
                    told.services, told.edges, told.seen_ns, kinds=told.kinds, rests_on=told.rests_on,
                    instances=told.instances)
            else:
                totals["dead"] += len(told.dead_letters)
                news.append(told.news)
        result = self._tenant.step(news, self.graph.edges, self.graph.rests_on)
        totals["late"] += result.late_rows
        return self._conclude(
            StepResult(watermark=Watermark.of(records), states={}, totals=dict(totals), dead_letters=tuple(dead),
                       changes=tuple(changes)), result)
