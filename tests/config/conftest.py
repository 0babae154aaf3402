"""A fixture that loads a config from a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sekd.config import RunConfig, load_config

MINIMAL = """\
run_dir: runs/a
model: {path: tiny}
data:
  train: {images: images, taxonomy: taxonomy.json}
"""

Load = Callable[..., RunConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the minimal config with more keys behind it and with overrides."""

    def load_text(more: str = "", overrides: Sequence[str] = (), base: str = MINIMAL) -> RunConfig:
        path = tmp_path / "config.yaml"
        path.write_text(base + more, encoding="utf-8")
        return load_config(path, overrides)

    return load_text
