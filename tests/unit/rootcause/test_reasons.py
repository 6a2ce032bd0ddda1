"""What is said for and against a suspect, out of its series."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rootcause.reasons import Reasons
from rootcause.types import CaseWindow

S = 10**9
SERVICES = ("gateway", "orders", "payments")
EDGES = np.array([[0, 1], [1, 2]], dtype=np.int32)
ONSET = 100


def window(since: Mapping[str, int], *, errors_from: int | None = None, old: bool = False) -> CaseWindow:
    """Latency of each named service is twenty times its usual from the given row on."""
    rng = np.random.default_rng(0)
    latency: NDArray[np.float64] = 0.05 * rng.lognormal(0, 0.05, (120, 3))
    for service, row in since.items():
        latency[row:, SERVICES.index(service)] *= 20
    errors = np.zeros((120, 3))
    if errors_from is not None:
        errors[errors_from:, 2] = 0.4
    if old:
        latency[92:, 1] *= 20
    calls = latency[:, [1, 2]].copy()
    return CaseWindow(np.arange(120, dtype=np.int64) * S, SERVICES, {"latency": latency, "errors": errors}, EDGES,
                      {"latency": calls}, ONSET)


def texts(case: CaseWindow, service: str, *, is_for: bool = True) -> list[str]:
    found = Reasons(case, ONSET * S).evidence(SERVICES.index(service))
    return [e.text for e in found if e.is_for == is_for]


def test_first_mover_with_its_time_and_size() -> None:
    case = window({"payments": 103, "orders": 105, "gateway": 106}, errors_from=108)
    first, *rest = Reasons(case, ONSET * S).evidence(2)
    assert first.text.startswith("latency moved first, 3 s after the first sign: ")
    assert first.text.endswith(" ms")
    assert first.value is not None
    assert first.usual is not None
    assert 15 < first.value / first.usual < 30
    assert "error ratio 40 %, usually 0 %, 8 s after the first sign" in [e.text for e in rest]
    assert any(e.text.startswith("calls from orders: latency ") for e in rest)


def test_path_follows_the_order_in_which_it_was_felt() -> None:
    upwards = Reasons(window({"payments": 103, "orders": 105, "gateway": 108}), ONSET * S)
    assert [SERVICES[i] for i in upwards.travelled(2)] == ["payments", "orders", "gateway"]
    # Felt above long before: it did not come from here.
    downwards = Reasons(window({"payments": 112, "orders": 103, "gateway": 103}), ONSET * S)
    assert downwards.travelled(2) == (2,)
    assert downwards.travelled(0) == (0,)


def test_an_earlier_callee_speaks_against() -> None:
    case = window({"payments": 101, "orders": 106})
    assert texts(case, "orders", is_for=False) == ["its callee payments failed or slowed 5 s earlier"]
    assert texts(case, "payments", is_for=False) == []


def test_nothing_moved_speaks_against() -> None:
    assert texts(window({"payments": 103}), "gateway", is_for=False) == ["none of its own series left its usual range"]
    assert texts(window({"payments": 103}), "gateway") == []


def test_what_was_so_before_is_no_news() -> None:
    case = window({"payments": 103}, old=True)
    assert texts(case, "orders") == []
    assert texts(case, "orders", is_for=False) == ["latency was as unusual before the incident"]
    assert Reasons(case, ONSET * S).felt_row(1) is None


def test_missing_series_are_stood() -> None:
    nothing = np.full((120, 3), np.nan)
    case = CaseWindow(np.arange(120, dtype=np.int64) * S, SERVICES, {"latency": nothing}, EDGES, {}, ONSET)
    assert Reasons(case, ONSET * S).evidence(1) == []
    assert Reasons(case, ONSET * S).travelled(1) == (1,)
