"""Grouping and template accuracy of a log parser, as the field's benchmarks define them.

Labels and answers go through the same normalisation, so that taste in blanks and glued punctuation does not count.
The rules are those of the corrected labels (Khan et al., Guidelines for assessing the accuracy of log message template
identification techniques, ICSE 2022): one blank, values instead of true/false/null/root/admin, paths and whole numbers,
words glued to a value are part of it, and neighbouring values are one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_WILD: Final = "<*>"
_VALUES: Final = frozenset(("true", "false", "null", "root", "admin"))
_PATH_SPLIT: Final = re.compile(r"([\s,!;:=|\"'\[\](){}])")
_TOKEN_SPLIT: Final = re.compile(r"([\s,!;:=|\"'\[\](){}.\-+@#$%&])")
_PATH: Final = re.compile(r"(?:/[^/]+)+")
_NUMBER: Final = re.compile(r"[0-9]+")
_GLUED: Final = re.compile(r"[^\s/]*<\*>[^\s/]*")
_REPEATS: Final = (("<*>.<*>", _WILD), ("<*><*>", _WILD), (" #<*># ", " <*> "), (" #<*> ", " <*> "), ("<*>:<*>", _WILD),
                   ("<*>#<*>", _WILD), ("<*>/<*>", _WILD), ("<*>@<*>", _WILD), (' "<*>" ', " <*> "), (" '<*>' ", " <*> "))


@lru_cache(maxsize=100_000)
def normalised(template: str) -> str:
    """The template in the benchmark's form.

    >>> normalised("user root took  0x<*>ms at /var/log/x, 10.<*>.1")
    'user <*> took <*> at <*>, <*>'
    """
    text = re.sub(r"\s+", " ", template.strip())
    text = "".join(_WILD if _PATH.fullmatch(part) else part for part in _PATH_SPLIT.split(text))
    text = "".join(_value(part) for part in _TOKEN_SPLIT.split(text))
    for old, new in _REPEATS:
        while old in text:
            text = text.replace(old, new)
    return text


def _value(token: str) -> str:
    if token.lower() in _VALUES or _NUMBER.fullmatch(token):
        return _WILD
    return _WILD if _GLUED.fullmatch(token) and token != "<*>/<*>" else token


def grouping(truth: Sequence[str], groups: Sequence[object]) -> tuple[float, float]:
    """(GA, FGA). GA: share of lines in a group that holds exactly the lines of one true event. FGA: F1 over groups."""
    lines_of: dict[object, list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        lines_of[group].append(at)
    sizes = Counter(truth)
    right_groups = right_lines = 0
    for lines in lines_of.values():
        events = {truth[at] for at in lines}
        if len(events) == 1 and sizes[events.pop()] == len(lines):
            right_groups += 1
            right_lines += len(lines)
    return right_lines / len(truth), 2 * right_groups / (len(lines_of) + len(sizes))


def template_accuracy(truth: Sequence[str], found: Sequence[str]) -> tuple[float, float]:
    """(PA, FTA). PA: share of lines with exactly the labelled template. FTA: F1 over templates; one is right when all
    its lines, and no others' label, say the same."""
    labels, answers = [normalised(t) for t in truth], [normalised(t) for t in found]
    labels_of: dict[str, set[str]] = defaultdict(set)
    for label, answer in zip(labels, answers, strict=True):
        labels_of[answer].add(label)
    right = sum(of == {answer} for answer, of in labels_of.items())
    exact = sum(label == answer for label, answer in zip(labels, answers, strict=True))
    return exact / len(truth), 2 * right / (len(labels_of) + len(set(labels)))
