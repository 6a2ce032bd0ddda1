"""Times as producers write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from ingest.errors import DecodeError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NS = 2**63 - 1


def to_ns(value: object, otherwise_ns: int) -> int:
    """Nanoseconds since the epoch from a number (s, ms, us or ns, by magnitude) or RFC 3339 text.

    None and "" give `otherwise_ns`. Raises DecodeError on anything else.
    """
    if value is None or value == "":
        return otherwise_ns
    if isinstance(value, bool):
        raise DecodeError(f"time {value!r}: neither number nor text", reason="bad_time")
    if isinstance(value, (int, float)):
        return _from_number(value)
    if isinstance(value, str):
        try:
            return _from_number(int(value))
        except ValueError:
            pass
        try:
            return _from_number(float(value))
        except ValueError:
            return _from_text(value)
    raise DecodeError(f"time of type {type(value).__name__}", reason="bad_time")


def _from_number(value: int | float) -> int:
    if isinstance(value, float) and not math.isfinite(value):
        raise DecodeError(f"time {value}", reason="bad_time")
    size = abs(value)
    scale = 10**9 if size < 10**11 else 10**6 if size < 10**14 else 10**3 if size < 10**17 else 1
    ns = value * scale if isinstance(value, int) else round(value * scale)
    if not 0 <= ns <= _MAX_NS:
        raise DecodeError(f"time {value} is outside 1970..2262", reason="bad_time")
    return int(ns)


def _from_text(text: str) -> int:
    # datetime cuts fractions at microseconds; the nanoseconds are added by hand.
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DecodeError(f"time {text[:40]!r} is not RFC 3339", reason="bad_time") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - _EPOCH
    ns = (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    fraction = text.partition(".")[2]
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    if len(digits) > 6:
        ns += int(digits[6:9].ljust(3, "0"))
    if not 0 <= ns <= _MAX_NS:
        raise DecodeError(f"time {text[:40]!r} is outside 1970..2262", reason="bad_time")
    return ns
