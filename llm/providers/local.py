"""A GGUF model in this process's own llama.cpp server, reached over its OpenAI-compatible loopback port.

Extra `llm-local` (xllamacpp). The model is loaded at the first call, in a thread: about a second for
100 MB. One thread by default, since a machine that is being repaired has other things to do.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm.providers.openai_compatible import OpenAiCompatibleProvider
from llm.providers.registry import ProviderConfig
from llm.types import Completion, LlmError


class LocalProvider:
    """One GGUF file, served on 127.0.0.1 on a port the system picks."""

    def __init__(self, config: ProviderConfig) -> None:
        self._path = Path(config.gguf).expanduser()
        if not config.gguf or not self._path.is_file():
            raise LlmError("refused", f"no GGUF file at {config.gguf!r}")
        self._config = config
        self._server: Any = None
        self._remote: OpenAiCompatibleProvider | None = None
        self._starting = asyncio.Lock()

    @property
    def model(self) -> str:
        return self._config.model or self._path.name

    async def complete(self, *, system: str, user: str, schema: dict[str, object], max_tokens: int) -> Completion:
        async with self._starting:
            if self._remote is None:
                url = await asyncio.to_thread(self._start)
                self._remote = OpenAiCompatibleProvider(replace(self._config, base_url=url, model=self.model))
        return await self._remote.complete(system=system, user=user, schema=schema, max_tokens=max_tokens)

    def _start(self) -> str:
        try:
            import xllamacpp
        except ImportError as error:
            raise LlmError("not_installed", "pip install 'opsmend[llm-local]'") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.n_ctx = self._config.context_tokens
        params.n_parallel = 1
        params.cpuparams.n_threads = self._config.threads
        params.cpuparams_batch.n_threads = self._config.threads
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = 0
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError, OSError) as error:
            raise LlmError("refused", f"the model file can't be loaded: {self._path.name}") from error
        return f"{self._server.listening_address}/v1"

    async def aclose(self) -> None:
        if self._remote is not None:
            await self._remote.aclose()
            self._remote = None
        self._server = None  # its destructor stops the server
