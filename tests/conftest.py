"""What holds for all tests: property tests draw the same examples every time in CI, new ones elsewhere; peers over HTTP."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # small_http: used by test modules of several folders

from small_http import Answer, Asked, small_http

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def serve_http() -> Iterator[Callable[[Callable[[Asked], Answer]], str]]:
    """`serve_http(answer)` gives the URL of a real server that answers so until the test is over."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(small_http(answer))
