"""A real browser, a real HTTP server around any port, and a real opsmend with a small shop in front of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # dashboard_shop, dashboard_scene: used by several test modules

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium from Debian. Skips, and says so, where there is none.

    Of one module: as long as it is open its event loop runs in this thread, and tests that are coroutines could not.
    """
    if not CHROMIUM:
        pytest.skip("NO CHROMIUM: the dashboard was NOT tested in a browser. Run: sh .ci/system-packages")
    from dashboard_browser import open_browser

    with open_browser(CHROMIUM) as opened:
        yield opened
