import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.memory import HashEmbedder, IncidentMemory, MemoryConfig, MiniLmEmbedder, best_embedder, describe
from remediate.types import Outcome, Verdict


def outcome(n: int, signature: str, action: str, verdict: Verdict) -> Outcome:
    return Outcome(f"run-{n}", "p", "i", "cart", action, signature, verdict, n)


def minilm() -> MiniLmEmbedder:
    try:
        return MiniLmEmbedder()
    except ImportError:
        pytest.skip("extra `embed` is not installed: MiniLM is NOT tested")


def test_a_similar_fault_is_remembered() -> None:
    for embedder in (HashEmbedder(), minilm()):
        memory = IncidentMemory(embedder)
        memory.learn([outcome(1, "service|rollout|latency", "release.rollback", "fixed"),
                      outcome(2, "database|none|lock_wait", "postgres.terminate_blocker", "fixed")])
        [found] = memory.nearest("service|rollout|cpu,latency")
        assert (found.action, found.n) == ("release.rollback", 1)
        assert embedder.floor <= found.similarity < 1


def test_what_failed_more_than_it_helped_is_not_a_neighbour() -> None:
    memory = IncidentMemory()
    memory.learn([outcome(1, "service|none|latency", "process.restart", "fixed"),
                  outcome(2, "service|none|latency", "process.restart", "not_fixed"),
                  outcome(3, "service|none|latency", "process.restart", "not_fixed")])
    assert memory.nearest("service|none|latency") == ()


def test_learning_twice_counts_once_and_cannot_tell_teaches_nothing() -> None:
    memory = IncidentMemory()
    for _ in range(3):
        memory.learn([outcome(1, "service|none|hang", "process.kill", "fixed"),
                      outcome(2, "service|none|hang", "process.kill", "cannot_tell")])
    assert [n.n for n in memory.nearest("service|none|hang")] == [1]


@pytest.mark.parametrize(("known", "asked"), [
    ("service|none|error_ratio,process.down", "service|none|error_ratio"),  # MiniLM: .92
    ("service|rollout|latency", "service|none|latency"),  # .84
    ("service|none|process.down", "service|none|hang"),  # .82
    ("database|none|latency", "service|none|latency"),
])
def test_words_that_are_near_do_not_make_other_faults_comparable(known: str, asked: str) -> None:
    memory = IncidentMemory(minilm(), MemoryConfig(floor=0.0))
    memory.learn([outcome(1, known, "process.restart", "fixed")])
    assert memory.nearest(asked) == ()
    assert memory.nearest(known)


def test_memory_is_bounded() -> None:
    memory = IncidentMemory(config=MemoryConfig(max_outcomes=3))
    memory.learn(outcome(n, "service|none|hang", "process.kill", "fixed") for n in range(10))
    assert len(memory) == 3


@given(st.text())
def test_a_signature_of_any_text_is_described_in_our_own_words(text: str) -> None:
    said = describe(f"service|ζ{text}|ζ{text}")
    assert len(said) < 600
    assert "ζ" not in said


def test_the_best_embedder_says_which_it_is() -> None:
    assert best_embedder().name in ("MiniLM int8", "feature hash")
