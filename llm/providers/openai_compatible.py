"""Any endpoint that speaks the OpenAI chat API: hosted models, GLM, Qwen, vLLM, Ollama, llama.cpp.

Extra `llm` (pydantic-ai-slim[openai]), imported at the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm.providers.registry import ProviderConfig
from llm.types import Completion, LlmError, NoChoiceReason

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model


class OpenAiCompatibleProvider:
    """One model behind one base URL. One HTTP request per call, no retries: a second try would double
    the time-out and the cost, and the planner has a plan without the model."""

    def __init__(self, config: ProviderConfig) -> None:
        if not config.base_url or not config.model:
            raise LlmError("refused", "an OpenAI-compatible endpoint needs base_url and model")
        self._config = config

    @property
    def model(self) -> str:
        return self._config.model

    def _client(self) -> AsyncOpenAI:
        """A connection per call: a call is rare, and a kept one would be bound to the event loop it began in."""
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise LlmError("not_installed", "pip install 'opsmend[llm]'") from error
        # The client wants a key even where the endpoint asks for none.
        return AsyncOpenAI(base_url=self._config.base_url, api_key=self._config.api_key or "none", max_retries=0,
                           timeout=self._config.timeout_seconds)

    def _model(self, client: AsyncOpenAI) -> Model:
        try:
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.profiles.openai import OpenAIModelProfile
            from pydantic_ai.providers.openai import OpenAIProvider
        except ImportError as error:
            raise LlmError("not_installed", "pip install 'opsmend[llm]'") from error
        # `max_tokens` is what every compatible server knows; `max_completion_tokens` is OpenAI's own.
        profile = OpenAIModelProfile(supports_json_schema_output=True, openai_chat_supports_max_completion_tokens=False)
        return OpenAIChatModel(self._config.model, provider=OpenAIProvider(openai_client=client), profile=profile)

    async def complete(self, *, system: str, user: str, schema: dict[str, object], max_tokens: int) -> Completion:
        async with self._client() as client:
            return await self._ask(self._model(client), system, user, schema, max_tokens)

    async def _ask(self, model: Model, system: str, user: str, schema: dict[str, object],
                   max_tokens: int) -> Completion:
        from pydantic_ai.direct import model_request
        from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, UserError
        from pydantic_ai.messages import ModelRequest, SystemPromptPart, UserPromptPart
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.output import OutputObjectDefinition
        from pydantic_ai.settings import ModelSettings

        try:
            response = await model_request(
                model,
                [ModelRequest(parts=[SystemPromptPart(system), UserPromptPart(user)])],
                model_settings=ModelSettings(temperature=0.0, max_tokens=max_tokens,
                                             timeout=self._config.timeout_seconds),
                model_request_parameters=ModelRequestParameters(
                    output_mode="native",
                    output_object=OutputObjectDefinition(json_schema=schema, name="choice", strict=True)),
                instrument=False)
        except ModelHTTPError as error:
            is_ours = 400 <= error.status_code < 500 and error.status_code not in (408, 429)
            raise LlmError("refused" if is_ours else "unreachable",
                           f"the endpoint answered {error.status_code}") from error
        except AgentRunError as error:
            raise LlmError(*_reason(error)) from error
        except UserError as error:
            raise LlmError("refused", "the model client refuses the request") from error
        return _completion(response)

    async def aclose(self) -> None:
        """Nothing is kept open between calls."""


def _reason(error: Exception) -> tuple[NoChoiceReason, str]:
    from openai import APIConnectionError, APITimeoutError

    if isinstance(error.__cause__, APITimeoutError):
        return "timeout", "no answer in time"
    if isinstance(error.__cause__, APIConnectionError):
        return "unreachable", "no connection to the endpoint"
    return "invalid_answer", "the endpoint's answer is not of the OpenAI chat API"


def _completion(response: ModelResponse) -> Completion:
    from pydantic_ai.messages import TextPart

    usage = response.usage
    reported = bool(usage.input_tokens or usage.output_tokens)
    return Completion(
        text="".join(p.content for p in response.parts if isinstance(p, TextPart)),
        is_cut_off=response.finish_reason == "length",
        tokens_in=usage.input_tokens if reported else None,
        tokens_out=usage.output_tokens if reported else None)
