"""Stack traces: lines that belong to the line before, where a record holds several."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BEGINS = re.compile(r"\s+at \S|\s+\.\.\. \d+ |Caused by: |\s+Suppressed: |Traceback \(most recent call last\):|"
                     r"goroutine \d+ \[")
_INDENTED = re.compile(r"[ \t]")
_PYTHON_ENDS = re.compile(r"[A-Za-z_][\w.]*(?:: |\Z)")
_PYTHON_AGAIN = ("During handling of the above exception", "The above exception was the direct cause")


def joined_traces(lines: Iterable[str]) -> list[str]:
    """The lines, with the traces of Java, Python, Node and Go as part of the line that they follow. Indented lines
    belong to a trace once it has begun, and so does the error that ends a Python one."""
    found: list[list[str]] = []
    is_trace = is_python = False
    for line in lines:
        begins = _BEGINS.match(line) is not None
        belongs = begins or (is_trace and (_INDENTED.match(line) is not None or line.startswith(_PYTHON_AGAIN)))
        ends = is_python and not belongs and _PYTHON_ENDS.match(line) is not None
        if found and (belongs or ends):
            found[-1].append(line)
        else:
            found.append([line])
        is_trace = belongs
        is_python = belongs and (is_python or line.startswith("Traceback"))
    return ["\n".join(parts) for parts in found]
