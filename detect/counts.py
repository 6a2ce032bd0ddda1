"""Log lines to counts: one vector over templates per bucket and service, without a loop over the lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ingest.types import Int32, Int64

_DENSE = 4
"""Up to so many cells per line, counting into a dense table beats sorting."""


def count_by(bucket: Int64, service: Int32, template: Int32 | Int64) -> Iterator[tuple[int, int, int, int]]:
    """(bucket, service, template, lines) of what occurs, from columns [n]; services and templates may be -1.

    Ordered by bucket, service, template. Cost: 5 ns a line where few combinations are possible, else 80.
    """
    if len(bucket) == 0:
        return
    first, lowest_service, lowest_template = int(bucket.min()), int(service.min()), int(template.min())
    services, templates = int(service.max()) - lowest_service + 1, int(template.max()) - lowest_template + 1
    buckets = int(bucket.max()) - first + 1
    cells = buckets * services * templates
    if cells > 2**62:  # Python's numbers have no bound; the keys below do
        raise OverflowError(f"{buckets} buckets of {services} services and {templates} templates")
    keys = ((bucket - first) * services + service - lowest_service) * templates + template - lowest_template
    if cells <= _DENSE * len(keys):
        table: NDArray[np.intp] = np.bincount(keys, minlength=cells)
        found = np.flatnonzero(table)
        counts = table[found]
    else:
        found, counts = np.unique(keys, return_counts=True)
    rest, template_at = np.divmod(found, templates)
    bucket_at, service_at = np.divmod(rest, services)
    yield from zip((bucket_at + first).tolist(), (service_at + lowest_service).tolist(),
                   (template_at + lowest_template).tolist(), counts.tolist(), strict=True)
