"""The pages in a real browser."""

from __future__ import annotations

from types import ModuleType

import pytest
from browser import load_screenshots


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    return load_screenshots()
