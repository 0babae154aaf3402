"""A stage of four shards whose worker is a fake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import sekd
from fakes import Fake

from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage

IDS = [f"sample {i}" for i in range(8)]


def run_fake_stage(
    run: Path, fake: Fake, *, name: str = "answers", spec: int = 1, max_attempts: int = 1
) -> Stage:
    """Run a stage of a run once; other values of ``spec`` are other stages."""
    stage = Stage.open(run / name, {"spec": {"seed": spec}}, SampleInputs.of_ids(IDS, 2))
    run_stage(stage, fake, max_attempts=max_attempts)
    return stage


def status_of(run: Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the only stage of ``sekd status --json``."""
    result = sekd("status", run, "--json")
    (stage,) = json.loads(result.output)
    return result.exit_code, stage
