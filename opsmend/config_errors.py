"""From a validation error to a sentence: which file, which line, which key, and what was meant."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError


def parse_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The document and its text. Raises ConfigError when it is absent or not TOML."""
    from opsmend.config import ConfigError

    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Name a file with -c, or run without one.") from error
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def explain(error: ValidationError, path: Path | None, text: str, model: type[BaseModel]) -> str:
    """One line per problem."""
    lines = []
    for problem in error.errors():
        location = tuple(part for part in problem["loc"])
        names = [str(part) for part in location]
        where = f"{path}:{_line_of(text, names)}" if path and text else "environment"
        dotted = ".".join(names)
        if problem["type"] == "extra_forbidden":
            valid = _valid_names(model, location[:-1])
            near = difflib.get_close_matches(names[-1], valid, n=1, cutoff=0.0)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            lines.append(f"{where}: unknown key '{dotted}'{hint} (known: {', '.join(sorted(valid))})")
        else:
            lines.append(f"{where}: {dotted}: {problem['msg']} (got {_short(problem.get('input'))})")
    return "\n".join(lines)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _valid_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        fields = {f.alias or name: f for name, f in current.model_fields.items()}
        if part not in fields:
            return []
        current = model_in(fields[part].annotation)
        if current is None:
            return []
    return [f.alias or name for name, f in current.model_fields.items()]


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model inside `X`, `X | None` or `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, list):
        for inner in get_args(annotation):
            if inner is not NoneType and (found := model_in(inner)) is not None:
                return found
    return None


def _line_of(text: str, names: list[str]) -> int:
    """The line of a key: its own name after its table's header; 1 if it can't be found."""
    lines = text.splitlines()
    words = [n for n in names if not n.isdigit()]
    start = 0
    for depth in range(len(words) - 1, 0, -1):
        header = re.compile(r"^\s*\[{1,2}\s*" + r"\s*\.\s*".join(map(re.escape, words[:depth])) + r"\s*\]{1,2}")
        found = [i for i, line in enumerate(lines) if header.match(line)]
        nth = next((int(n) for n in names if n.isdigit()), 0)
        if found:
            start = found[min(nth, len(found) - 1)]
            break
    key = re.compile(r'(^|[\s{,\[."])' + re.escape(words[-1]) + r'["\s]*[=\].]')
    for i in range(start, len(lines)):
        if key.search(lines[i]):
            return i + 1
    return start + 1
