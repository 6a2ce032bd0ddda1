"""What a user's action file may leave open: slots, a JSONPath for the effect, a CEL condition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from remediate.actions.base import ActionError, Effect

SLOT: Final = re.compile(r"\{([a-z_]+)\}")
_SAFE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/@+-]{0,252}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_NOTHING: Final = re.compile(r"0(\.0+)?\b|(no|none|noop|no-op|nothing|unchanged|skipped|false)\b", re.IGNORECASE)
MAX_EFFECT_CHARS: Final = 500


def slots_in(text: str) -> list[str]:
    """Names of the slots of a template."""
    return SLOT.findall(text)


def fill_url(template: str, params: Mapping[str, Any]) -> str:
    """Slots percent-encoded, `/` included; a value of dots alone would climb the path, so it is refused.

    >>> fill_url("http://a/restart/{service}", {"service": "a/../b?x=1"})
    'http://a/restart/a%2F..%2Fb%3Fx%3D1'
    """
    def value(match: re.Match[str]) -> str:
        text = str(params[match[1]])
        if not text.strip("."):
            raise ActionError(f"{match[1]} can't be part of a URL", reason="unsafe_value")
        return quote(text, safe="")

    return SLOT.sub(value, template)


def fill_text(template: str, params: Mapping[str, Any]) -> str:
    """Slots as they are: for values inside a JSON body, which is encoded afterwards."""
    return SLOT.sub(lambda m: str(params[m[1]]), template)


def fill_json(template: Any, params: Mapping[str, Any]) -> Any:
    """A JSON template with its strings filled; keys are left alone."""
    if isinstance(template, str):
        return fill_text(template, params)
    if isinstance(template, Mapping):
        return {k: fill_json(v, params) for k, v in template.items()}
    if isinstance(template, list | tuple):
        return [fill_json(v, params) for v in template]
    return template


def fill_argument(argument: str, params: Mapping[str, Any]) -> str:
    """A whole argv element. The value comes from telemetry: one that could be read as an option or holds
    anything but letters, digits and `._:/@+-` is refused, as is one with `..`."""
    match = SLOT.fullmatch(argument)
    if match is None:
        return argument
    text = str(params[match[1]])
    if not _SAFE.fullmatch(text) or ".." in text:
        raise ActionError(f"{match[1]} can't be an argument of a command", reason="unsafe_value")
    return text


def effect_reader(path: str) -> Callable[[Any], Effect]:
    """Reads what was done out of an answer. False, 0, empty, absent, "0 terminated", "none" are "nothing".

    Raises ValueError if `path` is no JSONPath.
    """
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.parser import parse

    try:
        compiled = parse(path)
    except JSONPathError as error:
        raise ValueError(f"no JSONPath: {error}") from error

    def read(body: Any) -> Effect:
        found = [match.value for match in compiled.find(body)] if isinstance(body, dict | list) else []
        if not found:
            return Effect("the answer does not say what was done", False)
        text = ", ".join(str(v) for v in found)[:MAX_EFFECT_CHARS]
        return Effect(text, any(_is_something(v) for v in found))

    return read


def _is_something(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and _NOTHING.match(value.strip()) is None
    return bool(value)


class Condition:
    """A compiled CEL expression that must give a bool over `body`, `status` or `exit_code`, and `run`.

    Strings in `body` that are RFC 3339 times become CEL timestamps, so that `body.started_at > run.started_at`
    compares times. Raises ValueError if it does not compile. Microseconds to a millisecond per evaluation.
    """

    def __init__(self, text: str) -> None:
        import celpy
        from celpy.celparser import CELParseError

        self.text = text
        environment = celpy.Environment()
        try:
            self._program = environment.program(environment.compile(text))
        except CELParseError as error:
            raise ValueError(f"no CEL expression: {error.args[0] if error.args else error}") from error

    def holds(self, values: Mapping[str, Any], *, key: str, started_ns: int) -> bool:
        """Raises ActionError where it can't be evaluated (a field is missing) or gives no bool."""
        import celpy
        from celpy.celtypes import BoolType, DoubleType, StringType, TimestampType
        from celpy.evaluation import CELEvalError

        started = datetime.fromtimestamp(started_ns / 1e9, UTC)
        run = {StringType("key"): StringType(key), StringType("started_at"): TimestampType(started),
               StringType("started_at_seconds"): DoubleType(started_ns / 1e9)}
        context = {name: _cel(value) for name, value in values.items()}
        try:
            result = self._program.evaluate({**context, "run": celpy.celtypes.MapType(run)})
        except (CELEvalError, TypeError, ValueError, KeyError) as error:
            raise ActionError(f"done_when could not be evaluated: {self.text}", reason="probe") from error
        if not isinstance(result, BoolType | bool):
            raise ActionError(f"done_when gives no yes or no: {self.text}", reason="probe")
        return bool(result)


def _cel(value: Any) -> Any:
    from celpy.adapter import json_to_cel
    from celpy.celtypes import ListType, MapType, StringType, TimestampType

    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return TimestampType(datetime.fromisoformat(value.upper().replace("Z", "+00:00")))
        except ValueError:
            return StringType(value)
    if isinstance(value, dict):
        return MapType({StringType(k): _cel(v) for k, v in value.items()})
    if isinstance(value, list):
        return ListType([_cel(v) for v in value])
    return json_to_cel(value)
