"""`when:` in runbooks: CEL over typed facts (https://cel.dev: no loops, no side effects, no I/O).

Facts are numbers, booleans and bounded words of ours; never titles, log text or anything else that whoever
writes telemetry could write.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ingest.errors import OpsmendError


class ConditionError(OpsmendError):
    """The expression does not compile, can't be evaluated over these facts, or gives no bool."""

    reason = "condition"


@lru_cache(maxsize=256)
def _program(text: str) -> Any:
    import celpy
    from celpy.celparser import CELParseError

    environment = celpy.Environment()
    try:
        return environment.program(environment.compile(text))
    except CELParseError as error:
        raise ConditionError(f"no CEL expression: {error.args[0] if error.args else error}") from error


def check(text: str) -> None:
    """Compile it. Raises ConditionError. Cost: milliseconds, once per text."""
    _program(text)


def holds(text: str, facts: Mapping[str, Any]) -> bool:
    """The value over `facts` (plain dicts, lists, words, numbers). Raises ConditionError.

    `has(a.b)` is false where `a` has no `b`; a field that is missing elsewhere is an error, not false.
    """
    from celpy.adapter import json_to_cel
    from celpy.celtypes import BoolType
    from celpy.evaluation import CELEvalError

    try:
        result = _program(text).evaluate({name: json_to_cel(value) for name, value in facts.items()})
    except (CELEvalError, TypeError, ValueError, KeyError) as error:
        raise ConditionError(f"could not be evaluated: {text}") from error
    if not isinstance(result, BoolType | bool):
        raise ConditionError(f"gives no yes or no: {text}")
    return bool(result)
