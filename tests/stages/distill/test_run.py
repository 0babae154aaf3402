"""What a training depends on, beside what the teacher was asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DistillSpec, LossWeights, RunConfig
from sekd.stages.distill.run import descent_of

ELICITED: Any = SimpleNamespace(labelled=None)


def with_labels(config: RunConfig, labels: Path | None, **distill: Any) -> RunConfig:
    name = config.elicit.dataset
    spec = config.data[name].model_copy(update={"labels": labels})
    return config.model_copy(
        update={"data": {**config.data, name: spec}, "distill": DistillSpec(**distill)}
    )


def write(path: Path, probability: float) -> Path:
    level = {"level": 1, "children": ["a", "b"], "probabilities": [probability, 1 - probability]}
    pq.write_table(pa.Table.from_pylist([{"sample_id": "1", "levels": [level]}]), path)
    return path


def test_open_naming_depends_on_the_content_of_a_descent(config: RunConfig, tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.parquet", 0.75)
    first = descent_of(with_labels(config, labels, formats=("open",)), ELICITED)
    assert first.labels == (labels,)
    assert first.hashes.keys() == {"descent"}
    copied = write(tmp_path / "copy.parquet", 0.75)
    assert descent_of(with_labels(config, copied, formats=("open",)), ELICITED).hashes == (
        first.hashes
    )
    write(labels, 0.5)
    mixed = descent_of(with_labels(config, labels, formats=("quiz", "open")), ELICITED)
    assert mixed.hashes != first.hashes


def test_what_learns_no_children_depends_on_no_descent(config: RunConfig, tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.parquet", 0.75)
    hard_alone = {"losses": LossWeights(soft=0.0), "formats": ("open",)}
    for changed in (
        with_labels(config, labels),
        with_labels(config, labels, **hard_alone),
        with_labels(config, None, formats=("open",)),
    ):
        assert not descent_of(changed, ELICITED).hashes
        assert not descent_of(changed, ELICITED).labels


def test_the_descents_of_the_run_itself_are_named_by_their_manifest(config: RunConfig) -> None:
    manifest = SimpleNamespace(files=lambda role: {0: Path(role)}, fingerprint="f00d")
    elicited: Any = SimpleNamespace(labelled=SimpleNamespace(manifest=manifest))
    found = descent_of(with_labels(config, None, formats=("open",)), elicited)
    assert found.labels == (Path("labels"),)
    assert found.hashes == {"descent": "f00d"}
