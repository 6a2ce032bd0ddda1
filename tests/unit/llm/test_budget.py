from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.budget import Budget, BudgetConfig, FileBudgetStore, MemoryBudgetStore, Spent
from llm.types import LlmError

DAY_NS = 86_400 * 10**9


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100), st.none() | st.integers(0, 500),
                          st.none() | st.integers(0, 100)), max_size=30))
def test_what_is_reserved_never_exceeds_the_day(calls: list[tuple[int, int, int | None, int | None]]) -> None:
    config = BudgetConfig(max_tokens_per_day=1000, max_usd_per_day=0.001, usd_per_million_input=1.0,
                          usd_per_million_output=2.0)
    budget = Budget(config, MemoryBudgetStore(), lambda: 0)
    for reserve_in, reserve_out, used_in, used_out in calls:
        try:
            reserved = budget.reserve(reserve_in, reserve_out)
        except LlmError as error:
            assert error.reason == "budget"
            continue
        spent = budget.spent()
        assert spent.tokens_in + spent.tokens_out <= 1000 and spent.usd <= 0.001 + 1e-12
        budget.settle(reserved, None if used_in is None else min(used_in, reserve_in),
                      None if used_out is None else min(used_out, reserve_out))
        assert budget.spent().tokens_in >= 0


def test_two_at_once_cannot_overspend_together() -> None:
    budget = Budget(BudgetConfig(max_tokens_per_day=100), MemoryBudgetStore(), lambda: 0)
    budget.reserve(60, 0)
    with pytest.raises(LlmError):
        budget.reserve(60, 0)


def test_a_new_day_begins_at_midnight_utc_and_a_late_answer_counts_for_its_day() -> None:
    now = [DAY_NS - 1]
    store = MemoryBudgetStore()
    budget = Budget(BudgetConfig(max_tokens_per_day=100), store, lambda: now[0])
    budget.reserve(100, 0)
    now[0] = DAY_NS
    assert budget.spent() == Spent()
    budget.reserve(100, 0)


def test_the_file_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "budget.json"
    Budget(BudgetConfig(), FileBudgetStore(path), lambda: 0).reserve(7, 3)
    assert Budget(BudgetConfig(), FileBudgetStore(path), lambda: 0).spent() == Spent(7, 3, 0.0)


def test_a_damaged_file_means_spent(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    path.write_text("{")
    with pytest.raises(LlmError) as caught:
        Budget(BudgetConfig(), FileBudgetStore(path), lambda: 0).reserve(1, 1)
    assert caught.value.reason == "budget"
