"""The answer's JSON schema, and its check.

One branch per action with the targets of that action: small models fail on flat enums. The branches
sit under a `choice` key because strict modes refuse `anyOf` at the root. Endpoints may ignore a
schema, so every answer is checked again here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llm.prompt import aliases
from llm.types import ChoiceRequest, LlmError

NONE: Final = "none"


class _Picked(msgspec.Struct, forbid_unknown_fields=True):
    action: str
    target: str


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    choice: _Picked


def answer_schema(request: ChoiceRequest) -> dict[str, object]:
    """JSON schema with one branch per option, and one to abstain."""
    alias = aliases(request)
    branches = [_branch(o.action, [alias[t] for t in o.targets])
                for o in sorted(request.options, key=lambda o: o.action)]
    branches.append(_branch(NONE, [""]))
    return {
        "type": "object", "properties": {"choice": {"anyOf": branches}},
        "required": ["choice"], "additionalProperties": False,
    }


def _branch(action: str, targets: list[str]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"action": {"type": "string", "enum": [action]}, "target": {"type": "string", "enum": targets}},
        "required": ["action", "target"], "additionalProperties": False,
    }


def read_answer(request: ChoiceRequest, text: str) -> tuple[str, str] | None:
    """(action, target name) of an answer; None if it says "none".

    Raises LlmError("invalid_answer") for anything that is not exactly one of the options: there is no
    repair of nearly right answers.
    """
    try:
        picked = msgspec.json.decode(text, type=_Answer).choice
    except (msgspec.DecodeError, UnicodeError) as error:
        raise LlmError("invalid_answer", "the answer is not of the schema") from error
    if picked.action == NONE:
        return None
    name_of = {alias: name for name, alias in aliases(request).items()}
    for option in request.options:
        if option.action == picked.action and name_of.get(picked.target) in option.targets:
            return option.action, name_of[picked.target]
    raise LlmError("invalid_answer", "the answer is not one of the options")
