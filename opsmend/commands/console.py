"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPED_COLUMNS = 160


def table_console() -> Console:
    """Standard output; wide where it is no terminal, so that a table in a file or a pipe is not cut off at 80 columns."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_COLUMNS, highlight=False, emoji=False)
