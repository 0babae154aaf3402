"""Load the config of a call, and keep it with what the call writes."""

from __future__ import annotations

from pathlib import Path

from sekd.config import RunConfig, load_config, write_resolved
from sekd.io.torchrun import is_main_process


def prepare(config: RunConfig | str | Path, name: str) -> RunConfig:
    """Load the config, and write it resolved beside the results."""
    loaded = config if isinstance(config, RunConfig) else load_config(config)
    if is_main_process():
        write_resolved(loaded, loaded.run_dir / f"{name}.config.yaml")
    return loaded
