from pathlib import Path

import pytest

from ingest.types import Record
from opsmend.journal import JournalError, JournalWriter, read_polls


def records(*offsets: int) -> list[Record]:
    return [Record("logs", 0, o, 1000 + o, b"line %d" % o, None, (("h", b"v"),)) for o in offsets]


def test_polls_come_back_with_their_boundaries_and_each_record_once(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    writer = JournalWriter(path)
    writer.write(records(0, 1))
    writer.write(records(2))
    writer.close()
    again = JournalWriter(path)  # a restart reads the last poll again
    again.write(records(2, 3))
    again.close()
    assert list(read_polls(path)) == [records(0, 1), records(2, 3)], "as it was when it was committed"


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_frame_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.journal"
    writer = JournalWriter(path)
    writer.write(records(0))
    writer.write(records(1))
    writer.close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_polls(path)) == [records(0)]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("{}\n")
    with pytest.raises(JournalError, match="not a run journal"):
        list(read_polls(path))


@pytest.mark.parametrize("cut", [1, 5, 20, 45])
def test_a_frame_torn_by_a_kill_is_cut_off_before_more_is_written(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.journal"
    writer = JournalWriter(path)
    writer.write(records(0))
    writer.write(records(1))
    writer.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = JournalWriter(path)
    again.write(records(1, 2))
    again.write(records(3))
    again.close()
    assert list(read_polls(path)) == [records(0), records(1, 2), records(3)]


def test_half_a_magic_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(b"OPSM")
    writer = JournalWriter(path)
    writer.write(records(0))
    writer.close()
    assert list(read_polls(path)) == [records(0)]


def test_another_file_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(JournalError, match="not a run journal"):
        JournalWriter(path)
    assert path.read_text() == "dear diary"
