"""The client: check, cache, coalesce, budget, ask, check again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from llm.budget import Budget
from llm.cache import ChoiceCache, cache_key
from llm.prompt import check, system_text, user_text
from llm.schema import answer_schema, read_answer
from llm.types import Choice, ChoiceRequest, Completion, LlmError, NoChoice, Provider


@dataclass(frozen=True)
class ClientConfig:
    """How one question may be asked."""

    timeout_seconds: float = 20.0
    """For the whole call. A time-out is "no plan", never a retry with a smaller model."""
    max_tokens: int = 64
    """Output tokens; the answer needs about 25. A stop by length is "no plan"."""
    cache_entries: int = 1024
    """Choices kept."""


class ChoosingClient:
    """`LlmClient` over one provider. Concurrent equal questions share one call.

    Cost: at most one provider call per distinct question. Every failure is a `NoChoice`; a choice that
    comes back has been checked against the request.
    """

    def __init__(self, provider: Provider, budget: Budget, config: ClientConfig | None = None, *,
                 on_usage: Callable[[int, int, float], None] | None = None) -> None:
        self._provider = provider
        self._budget = budget
        self._config = config or ClientConfig()
        self._cache = ChoiceCache(self._config.cache_entries)
        self._in_flight: dict[str, asyncio.Task[Choice]] = {}
        self._on_usage = on_usage

    async def choose(self, request: ChoiceRequest) -> Choice | NoChoice:
        try:
            check(request)
            key = cache_key(request, self._provider.model)
            if (hit := self._hit(request, key)) is not None:
                return hit
            task = self._in_flight.get(key)
            if task is None:
                task = asyncio.create_task(self._ask(request, key))
                self._in_flight[key] = task
                task.add_done_callback(lambda done: self._landed(key, done))
                return await asyncio.shield(task)
            await asyncio.shield(task)
            shared = self._hit(request, key)
            return shared if shared is not None else NoChoice("invalid_answer", "the shared call gave no choice")
        except LlmError as error:
            return NoChoice(error.reason, str(error))

    def _hit(self, request: ChoiceRequest, key: str) -> Choice | None:
        found = self._cache.get(key)
        if found is None:
            return None
        action, index = found
        return Choice(action, request.entities[index].name, self._provider.model, is_cached=True)

    def _landed(self, key: str, task: asyncio.Task[Choice]) -> None:
        self._in_flight.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, even if everybody who waited has gone

    async def _ask(self, request: ChoiceRequest, key: str) -> Choice:
        system, user, schema = system_text(request), user_text(request), answer_schema(request)
        # No tokenizer makes more tokens than there are bytes; three bytes per token is high already for
        # English and JSON, so this over-reserves and `settle` gives the rest back.
        text_bytes = len(system.encode()) + len(user.encode()) + len(msgspec.json.encode(schema))
        reserved = self._budget.reserve(text_bytes // 3 + 64, self._config.max_tokens)
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                completion = await self._provider.complete(
                    system=system, user=user, schema=schema, max_tokens=self._config.max_tokens)
        except TimeoutError as error:
            raise LlmError("timeout", f"no answer within {self._config.timeout_seconds:g} s") from error
        except LlmError as error:
            if error.reason in ("unreachable", "refused", "not_installed"):
                self._budget.settle(reserved, 0, 0)  # no answer was made, so none is paid
            raise
        usd = self._budget.settle(reserved, completion.tokens_in, completion.tokens_out)
        choice = self._checked(request, completion, usd)
        self._cache.put(key, choice.action, [e.name for e in request.entities].index(choice.target))
        return choice

    def _checked(self, request: ChoiceRequest, completion: Completion, usd: float) -> Choice:
        tokens_in, tokens_out = completion.tokens_in or 0, completion.tokens_out or 0
        if self._on_usage is not None:
            self._on_usage(tokens_in, tokens_out, usd)
        if completion.is_cut_off:
            raise LlmError("length", "the answer was cut off")
        picked = read_answer(request, completion.text)
        if picked is None:
            raise LlmError("abstained", "the model picked none of the actions")
        action, target = picked
        return Choice(action, target, self._provider.model, tokens_in, tokens_out, usd)

    async def aclose(self) -> None:
        """Cancel what is in flight and close the provider."""
        for task in tuple(self._in_flight.values()):
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        await self._provider.aclose()
