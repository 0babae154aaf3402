"""Config section ``benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sekd.config.base import NonNegativeInt, Positive, Section


class BenchmarkSpec(Section):
    """General benchmarks through lmms-eval, for base and student with the same settings."""

    tasks: tuple[Annotated[str, Field(pattern=r"^[\w.+-]+$")], ...] = ()
    """Tasks or groups of tasks, by the names that lmms-eval gives them, e.g.
    ``[mmbench_en_dev, gqa]``."""
    limit: Positive | None = None
    """Number of samples of each task, from its beginning; ``null`` takes all. Set it to try a task
    out, not for a result."""
    python: Path | None = None
    """The ``python`` of the environment where lmms-eval is installed; ``null`` takes the one that
    runs sekd. lmms-eval and sekd need other versions of some packages, so give it its own
    environment (docs/benchmarks.md)."""
    include_path: Path | None = None
    """Folder with task definitions of your own, which lmms-eval gets as ``--include_path``."""
    model: str = "transformers"
    """Name of the lmms-eval class that runs the model. ``transformers`` is sekd's own and runs
    every model that loads as an image-text-to-text model; ``vllm``, ``qwen2_5_vl`` and others come
    with lmms-eval. Change it for speed, or to repeat a published number."""
    model_args: dict[str, str | int | float | bool] = {}
    """Further arguments of that class, e.g. ``{gpu_memory_utilization: 0.7}`` of ``vllm``."""
    num_fewshot: NonNegativeInt | None = None
    """Number of solved examples before each question; ``null`` takes the task's own number."""
    batch_size: Positive = 1
    """Number of questions that the model answers at the same time, which lmms-eval gets as
    ``--batch_size``. Raise it for speed. It is part of the fingerprint."""
    seed: int = 0
    """Seed of lmms-eval's random numbers and of the bootstrap."""
    num_bootstrap: Positive = 1000
    """Number of bootstrap samples behind each confidence interval."""
