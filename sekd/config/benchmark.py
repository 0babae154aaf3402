"""Config section ``benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sekd.config.base import NonNegativeInt, Positive, Section


class BenchmarkSpec(Section):
    """General benchmarks through lmms-eval, base and student with the same settings."""

    tasks: tuple[Annotated[str, Field(pattern=r"^[\w.+-]+$")], ...] = ()
    """Tasks or groups as lmms-eval names them, e.g. ``[mmbench_en_dev, gqa]``."""
    limit: Positive | None = None
    """Only the first so many samples of each task."""
    python: Path | None = None
    """The python of the environment where lmms-eval is installed; this one if not given."""
    include_path: Path | None = None
    """A folder of tasks of your own, as lmms-eval's ``--include_path`` takes it."""
    model: str = "transformers"
    """lmms-eval's name of what runs the model: ``transformers`` (sekd's own, for whatever loads as
    an image-text-to-text model), ``vllm``, ``qwen2_5_vl`` ..."""
    model_args: dict[str, str | int | float | bool] = {}
    """Further arguments of that, e.g. ``{gpu_memory_utilization: 0.7}`` of ``vllm``."""
    num_fewshot: NonNegativeInt | None = None
    """Examples before each question; the task's own number if not given."""
    batch_size: Positive = 1
    seed: int = 0
    """Of lmms-eval's random numbers and of the bootstrap."""
    num_bootstrap: Positive = 1000
