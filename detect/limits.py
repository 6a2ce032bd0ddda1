"""Which series is the limit of which: by name, or as configured in `[limits]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

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
    """Pairs named in the configuration: `usage metric = limit metric or number`."""
    pairs: list[tuple[SeriesKey, SeriesKey | float]] = []
    for key in series:
        limit = limits.get(key.name)
        if isinstance(limit, (int, float)):
            pairs.append((key, float(limit)))
        elif limit is not None:
            found = [k for k in series if k.name == limit and (k.service, k.instance) == (key.service, key.instance)]
            pairs.extend((key, k) for k in found[:1])
    return pairs
