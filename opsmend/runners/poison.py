"""How many records a stage may fail on before the service stops instead of setting them aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ingest.errors import OpsmendError
from ingest.types import DeadLetter, Record

STAGE = "runner.poison"
"""Name of this state beside those of the stages."""


@dataclass(frozen=True)
class PoisonConfig:
    """When single bad records turn into a bug of ours."""

    max_at_once: int = 20
    """Records that may fail in a row, or in a burst, before reading stops."""
    good_per_poison: int = 1000
    """Records that must go well to earn back one failure: the share that is borne for long is 1 / this."""


class PoisonFlood(OpsmendError):
    """A stage fails on too many records. Reading stops where it stands; nothing was lost."""

    reason = "poison_flood"
    is_transient = False


class _State(msgspec.Struct):
    left: float


class PoisonBudget:
    """A bucket of allowed failures that good records fill again. Its state is stored with the results, so that
    a service that is started over and over does not drain its topics a handful at a time."""

    def __init__(self, config: PoisonConfig | None = None) -> None:
        self._config = config or PoisonConfig()
        self._left = float(self._config.max_at_once)

    @property
    def left(self) -> float:
        """Failures that are still allowed."""
        return self._left

    def good(self, records: int) -> None:
        """So many records went well."""
        self._left = min(self._config.max_at_once, self._left + records / self._config.good_per_poison)

    def spend(self, record: Record, error: Exception) -> DeadLetter:
        """The dead letter of one record. Raises PoisonFlood when the bucket is empty."""
        if self._left < 1:
            where = f"{record.topic}/{record.partition}@{record.offset}"
            raise PoisonFlood(
                f"processing fails on too many records (more than {self._config.max_at_once} at once, or one in "
                f"{self._config.good_per_poison}): a bug or a broken model, not the data. Reading stopped before "
                f"{where}; nothing was lost. Last error: {error!r:.300}. Upgrade or roll back opsmend, then start "
                "it again.") from error
        self._left -= 1
        return dead_letter(record, "step_failed", error)

    def snapshot(self) -> dict[str, bytes]:
        return {STAGE: msgspec.msgpack.encode(_State(self._left))}

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Go on from what was stored; full where there is nothing."""
        full = float(self._config.max_at_once)
        self._left = min(full, msgspec.msgpack.decode(states[STAGE], type=_State).left) if STAGE in states else full


def printable(text: str) -> str:
    """Text that every database takes: no NUL, no lone surrogates."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def dead_letter(record: Record, reason: str, error: Exception) -> DeadLetter:
    """What is kept of a record that a bug of ours stands in the way of."""
    return DeadLetter(
        topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms,
        reason=reason, detail=printable(f"{error!r:.500}"), value=record.value)
