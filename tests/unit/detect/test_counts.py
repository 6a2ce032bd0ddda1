"""Counting by columns gives what counting line by line gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.counts import count_by


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-2, 3) | st.integers(10**8, 10**8 + 3), st.integers(-1, 5),
                               st.integers(-1, 3) | st.integers(0, 2**31 - 1)), max_size=300))
def test_counts(rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 3)
    found = list(count_by(columns[:, 0], columns[:, 1].astype(np.int32), columns[:, 2].astype(np.int32)))
    assert [(b, s, t) for b, s, t, _ in found] == sorted(set(rows))
    assert {(b, s, t): n for b, s, t, n in found} == Counter(rows)


def test_one_row_per_line_of_wildly_different_times_is_no_overflow() -> None:
    bucket = np.array([0, 2**33], np.int64)
    found = list(count_by(bucket, np.array([0, 9], np.int32), np.array([0, 2**20], np.int32)))
    assert found == [(0, 0, 0, 1), (2**33, 9, 2**20, 1)]
