"""What holds for all tests.

Property tests draw the same examples every time in CI, new ones elsewhere. With `-n 2 --dist loadgroup` the tests of
the fault lab, of which a machine bears one, run one after the other in one process, and every other file in another.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "lab" if item.get_closest_marker("lab") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    # The lab's are the longest: whoever begins with them ends last all the same.
    items.sort(key=lambda item: item.get_closest_marker("lab") is None)
