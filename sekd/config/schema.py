"""One YAML file describes a run. Every key is checked, and nothing in the file is executed.

Each stage has a *spec*, whose fields change the numbers and are hashed into fingerprints, and a
*runtime* (batch sizes, engine memory, workers), whose fields are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sekd.config.base import DatasetName, Positive, RunDir, Section
from sekd.config.benchmark import BenchmarkSpec
from sekd.config.dataset import DatasetSpec
from sekd.config.descent import DescentSpec
from sekd.config.distill import DistillSpec
from sekd.config.elicit import ElicitSpec
from sekd.config.evaluate import EvaluateSpec
from sekd.config.messages import nearest
from sekd.config.model import ModelSpec
from sekd.config.sweep import SweepSpec
from sekd.errors import ConfigError


class RunConfig(Section):
    """One run, from images to metrics."""

    run_dir: RunDir
    """Directory that everything is written to: a path, or the URL of a place on a remote store,
    e.g. ``s3://bucket/birds``. Relative paths start at the current directory."""
    model: ModelSpec
    """The vision-language model."""
    data: dict[DatasetName, DatasetSpec]
    """Datasets by name; the stages refer to them by these names."""
    elicit: ElicitSpec = ElicitSpec()
    """Stage one: what the teacher is asked, and how."""
    descent: DescentSpec = DescentSpec()
    """How a model descends a taxonomy where no label is known."""
    distill: DistillSpec = DistillSpec()
    """Stage two: how the student is trained."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """Last stage: which models are evaluated, on what, and how."""
    benchmark: BenchmarkSpec = BenchmarkSpec()
    """General benchmarks of base and student, for ``sekd benchmark``."""
    sweep: SweepSpec = SweepSpec()
    """Students to compare, for ``sekd sweep``."""
    rounds: Positive = 1
    """Largest number of rounds of ``sekd rounds``. The student of one round is the teacher of the
    next, whose student goes on from its adapter."""

    def variant(self, name: str) -> DistillSpec:
        """Return all settings of a variant of the sweep.

        Raises:
            ValidationError: if the variant does not fit the config. In a loaded config that is true
                only of default variants, which the user did not ask for.
        """
        settings = _merged(self.distill.model_dump(mode="json"), self.sweep.variants[name])
        return DistillSpec.model_validate_json(json.dumps(settings))

    def dataset(self, name: str, asked_by: str) -> DatasetSpec:
        """Return the dataset of that name.

        Args:
            asked_by: config key that holds the name, for the error message.

        Raises:
            ConfigError: if there is no such dataset.
        """
        if name not in self.data:
            raise ConfigError(
                f"{asked_by}: no dataset {name!r} under data{nearest(name, self.data)}"
            )
        return self.data[name]


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace some of the nested settings."""
    merged = dict(settings)
    for key, value in changes.items():
        previous = settings.get(key)
        if isinstance(previous, Mapping) and isinstance(value, Mapping):
            value = _merged(previous, value)
        merged[key] = value
    return merged
