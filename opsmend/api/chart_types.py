"""What `/api/v1/incidents/{id}/charts` answers, and what the incident page draws: times are seconds since the epoch."""

from __future__ import annotations

import msgspec

Numbers = tuple[float | None, ...]


class Crossing(msgspec.Struct, frozen=True):
    """A predicted crossing of the limit; the interval holds 90 %."""

    low: float
    middle: float
    high: float
    ahead: bool  # it is still to come
    current: float  # value at `now`
    now: float


class ChartSeries(msgspec.Struct, frozen=True):
    """One series on the clock `IncidentCharts.t`, thinned so that peaks stay; null is "not reported"."""

    id: str
    service: str
    name: str
    instance: str
    peer: str
    label: str  # what people call it
    decides: str  # the suspect that it speaks for or against; "" for another sign of the incident
    quiet: bool  # as usual
    lo: float
    hi: float  # a scale on which a quiet series looks quiet
    values: Numbers  # [t]
    forecast: tuple[Numbers, Numbers, Numbers]  # [t] each: 5 %, 50 % and 95 % as they were forecast before the value came
    onset: float | None  # its first sign, or when it left its usual range
    limit: float | None
    crossing: Crossing | None


class ChartMark(msgspec.Struct, frozen=True):
    """A change by people or a repair by opsmend."""

    t: float
    kind: str  # change | repair
    service: str
    what: str


class GraphNode(msgspec.Struct, frozen=True):
    """A service or what it rests on, as the root-cause graph shows it."""

    name: str
    kind: str  # service | database | cache | queue | external | host | volume
    state: str  # ok | warning | critical | unknown
    probability: float | None  # of being the cause; null: not among the suspects
    is_suspect: bool  # the first one, where it can be told
    is_external: bool
    first_sign: float | None
    step: int | None  # place on the path, 0 is the suspect
    instances: tuple[str, ...]  # the unusual ones, where others of it are not


class GraphEdge(msgspec.Struct, frozen=True):
    """Calls from `caller` to `callee`, as measured in the last minute; null is "not measured"."""

    caller: str
    callee: str
    probability: float | None  # of the call itself being the cause
    on_path: bool
    requests_per_second: float | None
    error_ratio: float | None
    latency_seconds: float | None


class CauseGraph(msgspec.Struct, frozen=True):
    """The part of the service graph that matters to an incident. Empty lists where nobody knows who calls whom."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    path: tuple[str, ...]  # from the first suspect up to where it is felt
    p_none: float | None  # probability of "none of these"; null: not diagnosed
    cannot_tell: bool
    graph_hash: str  # of the graph that the diagnosis rests on


class IncidentCharts(msgspec.Struct, frozen=True):
    """Series, forecasts, limits and crossings of an incident on one clock, and its root-cause graph."""

    t: tuple[float, ...]
    series: tuple[ChartSeries, ...]
    start: float
    now: float
    end: float  # beyond `now` there are only predicted crossings
    onset: float  # first sign of the incident
    ticks: tuple[float, ...]
    marks: tuple[ChartMark, ...]
    begin: int
    total: int  # charts that there are; `begin` is the first of them that is here
    graph: CauseGraph
