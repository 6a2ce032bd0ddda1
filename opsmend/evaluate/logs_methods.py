"""Ways to give log lines templates, all asked the same: lines of each system in, template texts out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Lines = dict[str, list[str]]
_RARE: Final = 1e-9


@dataclass(frozen=True)
class Answer:
    """One system's lines, [n] each."""

    texts: Sequence[str]
    """The templates when all lines have been read."""
    texts_then: Sequence[str]
    """The templates as they stood when each line was read."""
    groups_then: Sequence[object]
    """What told the groups apart when each line was read."""
    seconds: float
    """CPU time for the lines, learning included."""
    seconds_again: float
    """The same lines once more."""


def _ours(systems: Lines) -> dict[str, Answer]:
    """A miner for each system."""
    return {name: _mine({name: lines})[name] for name, lines in systems.items()}


def _ours_together(systems: Lines) -> dict[str, Answer]:
    """One miner, one group: as if a single service wrote the lines of all systems."""
    return _mine(systems)


def _mine(systems: Lines) -> dict[str, Answer]:
    from detect.templates.miner import TemplateMiner

    miner = TemplateMiner()
    miner.template_id("what is compiled is loaded before the clock starts", "warm-up")
    lines = [line for of in systems.values() for line in of]
    group = np.zeros(len(lines), np.int32)
    began = time.process_time()
    numbers = miner.numbers(lines, group, ["log"])
    first = time.process_time() - began
    then = [miner.text_at(number) for number in numbers.tolist()]
    now = {number: miner.text(miner.id_of(number)) for number in set(numbers.tolist())}
    texts = [now[number] for number in numbers.tolist()]
    began = time.process_time()
    miner.numbers(lines, group, ["log"])
    again = time.process_time() - began
    out, at = {}, 0
    for name, of in systems.items():
        end, share = at + len(of), len(of) / len(lines)
        out[name] = Answer(texts[at:end], then[at:end], then[at:end], first * share, again * share)
        at = end
    return out


GENERIC_MASKS: Final = (
    r"https?://\S+", r"(?<!\w)(?:/[\w.+-]+){2,}/?", r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    r"(?<!\w)(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?!\w)", r"/?(?<!\w)\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?!\w)",
    r"(?<!\w)0x[0-9a-fA-F]+(?!\w)", r"(?<!\w)[-+]?\d+(?:\.\d+)?(?!\w)")
"""URL, path, uuid, hardware address, IPv4, hexadecimal, number."""


def _drain(masks: Sequence[str]) -> Callable[[Lines], dict[str, Answer]]:
    def run(systems: Lines) -> dict[str, Answer]:
        return {name: _drained(lines, masks) for name, lines in systems.items()}

    return run


def drain3_miner(masks: Sequence[str] = ()) -> Any:
    """drain3 with its defaults and these masks."""
    from drain3 import TemplateMiner
    from drain3.masking import MaskingInstruction
    from drain3.template_miner_config import TemplateMinerConfig

    logging.getLogger("drain3").setLevel(logging.ERROR)
    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(mask, "*") for mask in masks]
    return TemplateMiner(config=config)


def _drained(lines: list[str], masks: Sequence[str]) -> Answer:
    miner = drain3_miner(masks)
    began = time.process_time()
    found: list[Any] = [miner.add_log_message(line) for line in lines]
    first = time.process_time() - began
    texts = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    then = [str(one["template_mined"]) for one in found]
    began = time.process_time()
    for line in lines:
        miner.add_log_message(line)
    clusters = [one["cluster_id"] for one in found]
    return Answer([texts[c] for c in clusters], then, clusters, first, time.process_time() - began)


def _trivial(rewrite: Callable[[str], str]) -> Callable[[Lines], dict[str, Answer]]:
    def run(systems: Lines) -> dict[str, Answer]:
        out = {}
        for name, lines in systems.items():
            began = time.process_time()
            texts = [rewrite(line) for line in lines]
            seconds = time.process_time() - began + _RARE
            out[name] = Answer(texts, texts, texts, seconds, seconds)
        return out

    return run


METHODS: Final[dict[str, Callable[[Lines], dict[str, Answer]]]] = {
    "opsmend": _ours,
    "opsmend, one miner": _ours_together,
    "drain3": _drain(()),
    "drain3-masks": _drain(GENERIC_MASKS),
    "digits masked": _trivial(lambda line: re.sub(r"\d+", "<*>", line)),
    "line as it is": _trivial(lambda line: line),
}
