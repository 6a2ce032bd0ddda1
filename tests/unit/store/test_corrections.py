"""The log of corrections: numbered in the order of commits, whoever writes."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from opsmend.corrections import Correction, as_record, of_record
from opsmend.store import corrections
from opsmend.store.corrections import CorrectionLog


def word(n: int) -> Correction:
    return Correction(f"c{n}", "split", "i1", "ana <b>", 7, ("s1", "s2"), "i2")


def test_they_come_back_in_order(engine: sa.Engine) -> None:
    log = CorrectionLog(engine)
    assert [log.append(word(n)) for n in range(3)] == [1, 2, 3]
    assert log.after(1) == [(2, word(1)), (3, word(2))] and log.after(3) == []
    assert CorrectionLog(engine).append(word(3)) == 4, "also after a restart"
    assert of_record(as_record(4, word(3))) == word(3)


def test_many_writers_leave_no_hole(engine: sa.Engine) -> None:
    log, given = CorrectionLog(engine), []

    def write(writer: int) -> None:
        given.extend(log.append(word(100 * writer + n)) for n in range(5))

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 21)) == [seq for seq, _ in log.after(0)]


def test_it_is_bounded(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "_KEPT", 3)
    log = CorrectionLog(engine)
    for n in range(6):
        log.append(word(n))
    assert [seq for seq, _ in log.after(0)] == [4, 5, 6]
