"""Tell the first process of torchrun from the others, before torch is imported."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Return whether torchrun started this process first, or did not start it at all."""
    return os.environ.get("RANK", "0") == "0"
