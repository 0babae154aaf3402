"""A real browser for tests: Debian's chromium, driven by its chromedriver."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "screenshot_report.py"


def _missing() -> str:
    """What keeps a browser from starting."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed (pip install '.[dev]')"
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return "no chromium (apt-get install chromium chromium-driver)"
    return ""


needs_browser = pytest.mark.skipif(
    bool(_missing()) and not os.environ.get("SEKD_REQUIRE_CHROMIUM"), reason=_missing()
)


def load_screenshots() -> ModuleType:
    """Return the script that takes screenshots as a module; it starts browsers."""
    spec = importlib.util.spec_from_file_location("screenshot_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
