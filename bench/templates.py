"""The template miner alone on one core: `python bench/templates.py [--lines N] [--data DIR] [--json FILE]`.

Nanoseconds of CPU per line, cold (a new miner) and warm (lines with fresh identifiers into a miner that knows the
templates), on two streams: digits of identifiers change, and digits and letters do (hex, hosts, users, paths). With
`--data`, lines of the labelled systems with fresh digits as a third. drain3 reads the beginning of each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from bench.log_stream import lines
from detect.templates.miner import TemplateMiner
from ingest.types import Texts

BATCH = 5_000
Stream = list[tuple[str, str]]


def generated(count: int, *, letters: bool, start: int) -> Stream:
    """(service, message)."""
    return [(service, text) for _, service, _, text in lines(count, letters=letters, start=start)]


def recorded(data: Path, count: int, seed: int) -> Stream:
    """Lines of all systems in turn, every digit of a number thrown anew."""
    import pandas as pd

    systems = [(f.parent.name, list(pd.read_csv(f, keep_default_na=False, dtype=str)["Content"]))
               for f in sorted(data.glob("*/*_2k.log_structured_corrected.csv"))]
    dice = random.Random(seed)
    out: Stream = []
    for n in range(count):
        name, of = systems[n % len(systems)]
        text = of[n // len(systems) % len(of)]
        out.append((name, re.sub(r"\d{3,}", lambda m: str(dice.randrange(10 ** (len(m[0]) - 1), 10 ** len(m[0]))), text)))
    return out


def mine(miner: TemplateMiner, stream: Stream) -> float:
    """ns of CPU per line, in batches as the decoder hands them on."""
    names = sorted({service for service, _ in stream})
    number = {name: i for i, name in enumerate(names)}
    spent = 0
    for at in range(0, len(stream), BATCH):
        part = stream[at:at + BATCH]
        texts = Texts.of([text for _, text in part])
        groups = np.array([number[service] for service, _ in part], np.int32)
        began = time.process_time_ns()
        miner.numbers_of_buffer(texts.buffer, texts.offsets, groups, names)
        spent += time.process_time_ns() - began
    return spent / len(stream)


def drain(stream: Stream) -> float:
    """ns of CPU per line of drain3 with its defaults."""
    import logging

    from drain3 import TemplateMiner as Drain3
    from drain3.template_miner_config import TemplateMinerConfig

    logging.getLogger("drain3").setLevel(logging.ERROR)
    peer = Drain3(config=TemplateMinerConfig())
    began = time.process_time_ns()
    for _, text in stream:
        peer.add_log_message(text)
    return (time.process_time_ns() - began) / len(stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--peer-lines", type=int, default=40_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.process_time()
    TemplateMiner().template_id("loads the machine code")
    start_seconds = time.process_time() - began
    n = arguments.lines
    streams: dict[str, tuple[Stream, Stream]] = {
        "letters and digits change": (generated(n, letters=True, start=0), generated(n, letters=True, start=n)),
        "digits change": (generated(n, letters=False, start=0), generated(n, letters=False, start=n))}
    if arguments.data:
        streams["labelled systems, digits change"] = (recorded(arguments.data, n, 0), recorded(arguments.data, n, 1))
    told: dict[str, dict[str, float]] = {}
    for name, (first, second) in streams.items():
        miner = TemplateMiner()
        cold, warm = mine(miner, first), mine(miner, second)
        peer = drain(first[:arguments.peer_lines])
        told[name] = {"cold_ns": round(cold), "warm_ns": round(warm), "drain3_ns": round(peer),
                      "ratio": round(peer / warm, 1), "templates": len(miner), "evicted": miner.evicted,
                      "bytes_per_line": round(sum(len(t) for _, t in second) / n)}
        print(f"{name}: {json.dumps(told[name])}", flush=True)
    main_stream = told["letters and digits change"]
    report = {"name": "template miner alone, one core", "unit": "ns CPU per line", "ours": main_stream["warm_ns"],
              "peers": {"drain3": main_stream["drain3_ns"]}, "ratio": main_stream["ratio"], "streams": told,
              "first_call_seconds": round(start_seconds, 2)}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
