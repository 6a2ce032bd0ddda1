"""Equal questions are asked once.

The key is made of template ids, typed slots, the eligible set, the versions of catalogue and policy
and the model: never of volatile text or exact numbers, or every repeat of an incident would cost a
call. Whoever uses a hit runs its gates again: only the choice is kept, not its permission.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import msgspec

from llm.prompt import aliases
from llm.types import ChoiceRequest


def cache_key(request: ChoiceRequest, model: str) -> str:
    """SHA-256 of what the choice may depend on. Scores count in quarters, ages and values not at all."""
    alias = aliases(request)
    facts = sorted({(alias[f.entity], f.kind, round(f.score * 4), f.template_id) for f in request.facts})
    options = sorted(
        (o.action, o.title, tuple(alias[t] for t in o.targets), o.risk, o.is_reversible, o.disruption,
         o.successes, o.trials)
        for o in request.options)
    entities = [(alias[e.name], e.kind, round(e.probability * 4)) for e in request.entities]
    calls = sorted((alias[a], alias[b]) for a, b in request.calls)
    body = [request.catalogue_version, request.policy_version, model, options, entities, calls, facts]
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()


class ChoiceCache:
    """Least recently used out first. Holds (action, index of target entity), so that equal incidents of
    differently named services share an entry."""

    def __init__(self, max_entries: int = 1024) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[str, int] | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: str, action: str, entity_index: int) -> None:
        self._entries[key] = (action, entity_index)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
