"""Which series is the limit of which: by name, or as configured in `[limits]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from detect.indicators import indicator_of
from ingest.types import SeriesKey

_PARTS = re.compile(r"in_use|used|usage|active|max|limit|size|capacity|connections")


def _stem(name: str) -> str:
    """What is left of a name without the words that tell use from limit."""
    return re.sub(r"[^a-z0-9]+", "", _PARTS.sub("", name.lower()))


@lru_cache(maxsize=64)
def companions(series: tuple[SeriesKey, ...]) -> tuple[tuple[SeriesKey, SeriesKey], ...]:
    """(usage, limit) pairs of the same service, instance and stem.

    >>> a, b = SeriesKey("orders", "db.pool.in_use"), SeriesKey("orders", "db.pool.max")
    >>> companions((a, b)) == ((a, b),)
    True
    """
    limits = {(k.service, k.instance, _stem(k.name)): k for k in series if indicator_of(k) == "limit"}
    pairs = []
    for key in series:
        if indicator_of(key) == "usage":
            limit = limits.get((key.service, key.instance, _stem(key.name)))
            if limit is not None:
                pairs.append((key, limit))
    return tuple(pairs)


def configured(series: Sequence[SeriesKey], limits: dict[str, str | float]) -> list[tuple[SeriesKey, SeriesKey | float]]:
    """Pairs named in the configuration: `usage metric = limit metric or number`, for any service, or
    `service/usage metric` for one, which comes before.

    >>> rss = [SeriesKey(service, "rss") for service in ("cart", "db")]
    >>> [limit for _, limit in configured(rss, {"rss": 1.0, "db/rss": 2.0})]
    [1.0, 2.0]
    """
    pairs: list[tuple[SeriesKey, SeriesKey | float]] = []
    for key in series:
        limit = limits.get(f"{key.service}/{key.name}", limits.get(key.name))
        if isinstance(limit, (int, float)):
            pairs.append((key, float(limit)))
        elif limit is not None:
            found = [k for k in series if k.name == limit and (k.service, k.instance) == (key.service, key.instance)]
            pairs.extend((key, k) for k in found[:1])
    return pairs


class Limit(NamedTuple):
    """A series and what it may not cross. `is_floor`: not fall below."""

    key: SeriesKey
    limit: SeriesKey | float
    is_floor: bool = False


_MORE_PARTS = re.compile(r"depth|length|count|current|open|bytes|total|size|entries|percent|threads|workers")
_NOUN = re.compile(r"disk|fs|filesystem|volume|storage|inode|memory|heap|swap|pool|queue|buffer|fd|descriptors?|cache"
                   r"|connections?|threads?|quota|lag|cert|certificate|ssl|tls|license|budget")
_NEVER = re.compile(r"cpu|hit|miss|error|success|latency|duration")
_LEFT = re.compile(r"(^|_)(free|available|remaining|left|until_expiry|to_expiry|headroom)(_|$)")
_SHARE = re.compile(r"(ratio|share|fraction|utilization)$")
_PERCENT = re.compile(r"(percent|percentage|pct)$")


def _share_of_whole(key: SeriesKey) -> Limit | None:
    """0 or 1 (100) as the limit of what is a share by its name, and 0 of what is left of something.

    >>> _share_of_whole(SeriesKey("db", "disk.used_percent"))[1:], _share_of_whole(SeriesKey("db", "cpu.percent"))
    ((100.0, False), None)
    >>> _share_of_whole(SeriesKey("edge", "certificate.days_left"))[1:]
    (0.0, True)
    """
    name = re.sub(r"[^a-z0-9]+", "_", key.name.lower())
    if _NEVER.search(name) or not _NOUN.search(name):
        return None
    if _LEFT.search(name):
        return Limit(key, 0.0, True)
    if _PERCENT.search(name):
        return Limit(key, 100.0)
    return Limit(key, 1.0) if _SHARE.search(name) else None


def limits_of(series: tuple[SeriesKey, ...], named: tuple[tuple[str, str | float], ...]) -> tuple[Limit, ...]:
    """Everything that has a limit, each series once: as configured (`named`), by a companion, as a share of a whole."""
    return _limits_of(series, named)


@lru_cache(maxsize=64)
def _limits_of(series: tuple[SeriesKey, ...], named: tuple[tuple[str, str | float], ...]) -> tuple[Limit, ...]:
    found: dict[SeriesKey, Limit] = {}
    for key, limit in [*configured(series, dict(named)), *companions(series), *_wider_companions(series)]:
        found.setdefault(key, Limit(key, limit))
    for key in series:
        share = _share_of_whole(key)
        if share is not None and indicator_of(key) != "limit":
            found.setdefault(key, share)
    return tuple(found.values())


def _wider_companions(series: tuple[SeriesKey, ...]) -> list[tuple[SeriesKey, SeriesKey]]:
    """Pairs by name for series that are no `usage` by their name: `jobs.queue.depth` and `jobs.queue.max`."""
    def stem(key: SeriesKey) -> tuple[str, str, str]:
        return key.service, key.instance, _stem(_MORE_PARTS.sub("", key.name.lower()))
    limits = {stem(k): k for k in series if indicator_of(k) == "limit"}
    if not limits:
        return []
    used = ("usage", "memory", "saturation", "disk", "space", "other")
    return [(k, limits[stem(k)]) for k in series if indicator_of(k) in used and stem(k) in limits and stem(k)[2]]
