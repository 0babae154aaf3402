"""Audit the datasets of a config; a model is loaded only where it ranks similar options."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.analysis.audit import DataAudit, audit
from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.pipeline.progress import show_progress


def run_audit(config: RunConfig, names: Sequence[str]) -> DataAudit:
    """Audit the datasets of these names, or all; every image is read.

    Raises:
        ConfigError: if a dataset is unknown or wrong.
    """
    datasets = [
        Dataset.load(name, config.dataset(name, "sekd data audit"))
        for name in names or list(config.data)
    ]
    if any(dataset.spec.distractors == "similar" for dataset in datasets):
        from sekd.stages.similar import with_similar  # it imports torch

        datasets = [with_similar(dataset) for dataset in datasets]
    num_images = sum(len(dataset.samples) for dataset in datasets)
    with show_progress("images", num_images) as progress:
        return audit(datasets, progress.advance)
