"""One YAML file describes a run; every key is checked, and nothing is executed from it.

Each stage has a *spec*, whose fields change the numbers and are hashed into fingerprints, and a
*runtime* (batch sizes, engine memory, workers), whose fields do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sekd.config.base import Positive, RunDir, Section
from sekd.config.benchmark import BenchmarkSpec
from sekd.config.dataset import DatasetSpec
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
    """A path, or the URL of a place on a remote store: ``s3://bucket/birds``."""
    model: ModelSpec
    data: dict[str, DatasetSpec]
    elicit: ElicitSpec = ElicitSpec()
    distill: DistillSpec = DistillSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    benchmark: BenchmarkSpec = BenchmarkSpec()
    sweep: SweepSpec = SweepSpec()
    rounds: Positive = 1
    """Of ``sekd rounds``, at most: the student of one is the teacher of the next, and goes on from
    its adapter."""

    def variant(self, name: str) -> DistillSpec:
        """The settings of a variant of the sweep, every one filled in.

        Raises:
            ValidationError: if they do not fit. In a config that was loaded these are variants that
                nobody asked for.
        """
        own = self.distill.model_dump(mode="json")
        changed = _changed(own, self.sweep.variants[name])
        return DistillSpec.model_validate_json(json.dumps(changed))

    def dataset(self, name: str, asked_by: str) -> DatasetSpec:
        """The dataset of that name.

        Raises:
            ConfigError: if there is none; ``asked_by`` is the key that names it.
        """
        if name not in self.data:
            raise ConfigError(
                f"{asked_by}: no dataset {name!r} under data{nearest(name, self.data)}"
            )
        return self.data[name]


def _changed(own: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them replaced."""
    changed = dict(own)
    for key, value in changes.items():
        before = own.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping):
            value = _changed(before, value)
        changed[key] = value
    return changed
