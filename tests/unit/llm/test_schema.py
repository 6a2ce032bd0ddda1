import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.prompt import check, system_text, user_text
from llm.schema import answer_schema, read_answer
from llm.types import ChoiceRequest, Entity, LlmError, Option

NAMES = st.text(min_size=1, max_size=20)


@st.composite
def requests(draw: st.DrawFn) -> ChoiceRequest:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    actions = draw(st.lists(st.from_regex(r"[a-z]{1,6}\.[a-z]{1,6}", fullmatch=True), min_size=1, max_size=4, unique=True))
    options = tuple(Option(a, "title", tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))))
                    for a in actions)
    return ChoiceRequest("c", "p", options, tuple(Entity(n, "service") for n in names))


@given(requests())
def test_every_allowed_answer_is_valid_and_read_back(request: ChoiceRequest) -> None:
    check(request)
    schema = answer_schema(request)
    alias = {e.name: f"e{i}" for i, e in enumerate(request.entities, 1)}
    for option in request.options:
        for target in alias:
            answer = {"choice": {"action": option.action, "target": alias[target]}}
            if target in option.targets:
                jsonschema.validate(answer, schema)
                assert read_answer(request, json.dumps(answer)) == (option.action, target)
            else:
                with pytest.raises(LlmError):
                    read_answer(request, json.dumps(answer))


@given(requests(), st.text())
def test_no_text_is_read_as_a_choice_by_accident(request: ChoiceRequest, text: str) -> None:
    with pytest.raises(LlmError):
        read_answer(request, text)


@given(requests())
def test_prompts_are_plain_and_the_catalogue_part_ignores_the_incident(request: ChoiceRequest) -> None:
    other = ChoiceRequest("c", "p", request.options, (*request.entities, Entity("zz" * 20, "database")))
    assert system_text(request) == system_text(other)
    assert (system_text(request) + user_text(request)).isascii()


def test_too_many_options_are_refused() -> None:
    options = tuple(Option(f"a.{c}", "t", ("x",)) for c in "abcde")
    with pytest.raises(LlmError):
        check(ChoiceRequest("c", "p", options, (Entity("x", "service"),)))
