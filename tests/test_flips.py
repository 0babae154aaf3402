"""A quick version of ``tests/helpers/flips.py``: each kind of file of a whole run is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from flips import FinishedRun, flip_one, one_of_each_kind

NUM_FLIPS = 60


def test_no_command_is_misled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finished = FinishedRun.build(tmp_path)
    rng = random.Random(1)
    flips = [flip_one(finished, path, rng) for path in one_of_each_kind(finished, NUM_FLIPS)]
    assert [flip.description for flip in flips if flip.outcome == "misled"] == []
    # The readers may be patched out of existence: they must have noticed something, too.
    assert sum(flip.outcome in ("refused", "mended") for flip in flips) > NUM_FLIPS / 5
