"""Values that begin with a zero byte and a schema id (Confluent's framing): Avro, JSON Schema and Protobuf to JSON.

Needs the extra `registry` and the registry's address; without either such a record is a dead letter that says which.

A registry that is away does not stop the stream: a request ends after two seconds, and for ten more seconds none is
made. The records of that time are dead letters with their bytes and offsets, so nothing is lost; what a waiting consumer
would gain for one topic it would cost all the others. Schemas are kept, so an outage only meets ids that are new.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.errors import DecodeError

_MAX_SCHEMAS: Final = 1000
_MISSING_SECONDS: Final = 60.0
"""How long an id that the registry does not know is believed not to exist."""
_AWAY_SECONDS: Final = 10.0
"""How long a registry that did not answer is left alone."""

ToJson = Callable[[bytes], bytes]
"""Of what stands behind the frame: to the bytes that are recognised then."""


@dataclass(frozen=True)
class SchemaRegistryConfig:
    """Where schemas are."""

    url: str = ""
    """Base URL, several comma-separated; empty: framed values are dead letters."""
    username: str = ""
    """For basic authentication."""
    password: str = field(default="", repr=False)
    ca: str = ""
    """PEM file of the authority that signed the registry's certificate; empty: the usual ones."""
    timeout_seconds: float = 2.0
    """For one answer."""


def is_framed(value: bytes) -> bool:
    """A zero byte, four bytes of schema id, and something behind: no other format begins like that."""
    return value[:1] == b"\x00" and len(value) > 5


class SchemaRegistry:
    """`unframe(value) -> bytes`. Safe to use from several threads."""

    def __init__(self, config: SchemaRegistryConfig | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config or SchemaRegistryConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[int, ToJson] = OrderedDict()
        self._missing: OrderedDict[int, tuple[float, str]] = OrderedDict()
        self._away_until = 0.0
        self._away_because = ""

    def unframe(self, value: bytes) -> bytes:
        """What the value holds, as JSON; a JSON value and OTLP's messages as they are.

        Raises DecodeError (reason "schema_registry") where the schema is not to be had, ("bad_framed") where the bytes
        don't fit it.
        """
        schema_id = int.from_bytes(value[1:5], "big")
        if not self._config.url:
            raise DecodeError(f"value framed with schema id {schema_id}: set [ingest.schema_registry] url and install the "
                              "extra 'registry' (pip install 'opsmend[registry]')", reason="schema_registry")
        with self._lock:
            read = self._known.get(schema_id) or self._fetched(schema_id)
        return read(value[5:])

    def _fetched(self, schema_id: int) -> ToJson:
        now = self._clock()
        until, because = self._missing.get(schema_id, (0.0, ""))
        if now < until:
            raise DecodeError(because, reason="schema_registry")
        if now < self._away_until:
            raise DecodeError(f"schema {schema_id}: {self._away_because}", reason="schema_registry")
        try:
            from ingest.schema_readers import NoAnswer, Unusable, reader_of
        except ImportError as error:
            raise DecodeError(f"value framed with schema id {schema_id}: install the extra 'registry' "
                              f"(pip install 'opsmend[registry]'): {error}", reason="schema_registry") from error
        try:
            found = reader_of(self._config, schema_id)
        except NoAnswer as error:
            self._away_until = self._clock() + _AWAY_SECONDS
            self._away_because = f"the registry does not answer: {error}"
            raise DecodeError(f"schema {schema_id}: {self._away_because}", reason="schema_registry") from error
        except Unusable as error:
            because = f"schema {schema_id}: {error}"
            _keep(self._missing, schema_id, (self._clock() + _MISSING_SECONDS, because))
            raise DecodeError(because, reason="schema_registry") from error
        self._missing.pop(schema_id, None)
        _keep(self._known, schema_id, found)
        return found


def _keep(cache: OrderedDict[int, Any], schema_id: int, found: Any) -> None:
    cache[schema_id] = found
    if len(cache) > _MAX_SCHEMAS:
        cache.popitem(last=False)
