"""What holds for all tests: property tests draw the same examples every time in CI, new ones elsewhere; peers over HTTP."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # small_http: used by test modules of several folders

from small_http import Answer, Asked, small_http

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def serve_http() -> Iterator[Callable[[Callable[[Asked], Answer]], str]]:
    """`serve_http(answer)` gives the URL of a real server that answers so until the test is over."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(small_http(answer))
