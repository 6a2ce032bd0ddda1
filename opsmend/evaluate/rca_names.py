"""One service, many spellings: pods, numbered instances, DNS names, another case. And times in other units."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Final

# The letters and digits of Kubernetes' generated names; the hash of a ReplicaSet has a digit, or a word would pass for one.
_POD: Final = re.compile(r"-(?=[a-z]*\d)[a-f0-9bcdfghjklmnpqrstvwxz]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$")
_NUMBERED: Final = re.compile(r"[-_]\d{1,3}$")
_TOO_LATE: Final = 1e11
"""Seconds: the year 5138. What is larger is in milliseconds, microseconds or nanoseconds."""


def without_pod(name: str) -> str:
    """The name of the deployment of a pod; other names as they are.

    >>> without_pod("cart-6d4cf56db6-x7x9p"), without_pod("red-basket-small")
    ('cart', 'red-basket-small')
    """
    return _POD.sub("", name)


def known_as(name: str, known: Collection[str]) -> str:
    """The one of `known` that is meant by `name`: itself, its deployment, the first label of its DNS name, it without its
    number, or in another case; `name` where it is none of these.

    >>> [known_as(n, {"cart", "Pay"}) for n in ("cart-6d4cf56db6-x7x9p", "cart.shop.svc", "cart-0", "pay", "cartoon")]
    ['cart', 'cart', 'cart', 'Pay', 'cartoon']
    """
    if name in known:
        return name
    short = without_pod(name.strip().lstrip("/").partition(".")[0].partition(":")[0])
    folded = {k.casefold(): k for k in sorted(known)}
    return next((folded[n.casefold()] for n in (short, _NUMBERED.sub("", short)) if n.casefold() in folded), name)


def seconds_of(time: str | float) -> float:
    """Unix seconds of a time in seconds, milliseconds, microseconds or nanoseconds; NaN for what is no number.

    >>> seconds_of("1661140320000"), seconds_of(1661140320)
    (1661140320.0, 1661140320.0)
    """
    value = number(time)
    while abs(value) > _TOO_LATE:
        value /= 1000
    return value


def number(cell: str | float | None) -> float:
    """NaN for an empty cell and for words like `null`; infinite is no number either."""
    try:
        value = float(cell) if cell is not None and cell != "" else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
