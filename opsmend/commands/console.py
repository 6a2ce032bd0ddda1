"""Where tables are printed, and how far their making is."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

_PIPED_COLUMNS = 160


def table_console() -> Console:
    """Standard output; wide where it is no terminal, so that a table in a file or a pipe is not cut off at 80 columns."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_COLUMNS, highlight=False, emoji=False)


def progress() -> Callable[[str, int, int], None] | None:
    """Writes (name, done, total) over one line of standard error; None where that is no terminal."""
    return _over_one_line if sys.stderr.isatty() else None


def _over_one_line(name: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r\x1b[K{name}: {done} of {total}" if done < total else "\r\x1b[K")
