"""Functions over bytes that numba compiles, and that are plain Python all the same.

The machine code is kept beside the source or in the user's cache directory (`NUMBA_CACHE_DIR` names another), so
that only the first start on a machine compiles. Where neither can be written, every start does. Without numba, or
with `NUMBA_DISABLE_JIT=1`, the same source runs as it stands: some hundred times slower, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*signatures: str, error_model: Literal["python", "numpy"] = "python") -> Callable[[F], F]:
    """A decorator. With `signatures` the function is compiled when its module is imported, for these types alone;
    without, it is one that only compiled functions call: it is kept as a part of these, or they would go on with its
    old code after a change. `error_model="numpy"`: a division by zero gives inf or NaN and not an exception, which is
    what lets loops of divisions run on vectors."""
    try:
        import numba
    except ImportError:
        return lambda function: function

    def decorate(function: F) -> F:
        chosen = list(signatures) or None
        try:
            return cast(F, numba.njit(chosen, cache=bool(signatures), nogil=True, boundscheck=False,
                                      error_model=error_model)(function))
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return cast(F, numba.njit(chosen, nogil=True, boundscheck=False, error_model=error_model)(function))

    return decorate
