"""Describe how a run was made, from its config and the records of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sekd import __version__
from sekd.analysis.results import Evaluation
from sekd.config import RunConfig
from sekd.data.stage_record import StageRecord
from sekd.io.hashing import digest


@dataclass(frozen=True)
class EvaluatedDataset:
    """A dataset that was measured.

    Attributes:
        distractors, num_options: ``None`` where the config is not known.
        is_zero_shot: the student was not taught all of its taxonomy.
    """

    name: str
    num_samples: int
    num_quarantined: int
    levels: Sequence[str]
    distractors: str | None
    num_options: int | None
    is_zero_shot: bool


@dataclass(frozen=True)
class RunProvenance:
    """The provenance of a run, ready to be listed.

    Attributes:
        facts: title -> text.
        config: YAML; empty where there is none.
    """

    facts: Mapping[str, str]
    datasets: Sequence[EvaluatedDataset]
    stages: Sequence[StageRecord]
    config: str


def labels_used(config: RunConfig | None) -> str:
    """Say what labels were used for before the evaluation, which always scores with them."""
    if config is None:
        return "whether labels were used is not known"
    spec = config.data.get(config.elicit.dataset)
    if config.distill.labels == "truth":
        return "labels were the student's targets"
    if spec is not None and spec.options == "children":
        return "no label was used"
    if spec is not None and spec.labels is not None:
        return f"the labels of {spec.labels} chose the options of its questions"
    return "labels chose the options of its questions, and no label was a target"


def provenance_of(evaluation: Evaluation) -> RunProvenance:
    """Gather everything that is known of how the run was made."""
    config = evaluation.config
    facts = _model_facts(config) if config is not None else {}
    engines = dict.fromkeys(_engine_text(record.fields) for record in evaluation.stages)
    engines.pop("", None)
    if engines:
        facts["engine"] = ", ".join(engines)
    facts["labels"] = f"in training: {labels_used(config)}; in the evaluation: for the score"
    facts["root level"] = "scored" if evaluation.root_is_scored else "shown, not scored"
    facts["report by"] = f"sekd {__version__}"
    text = ""
    if config is not None:
        content = config.model_dump(mode="json")
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        facts["config"] = f"SHA-256 {digest(content)[:16]}"
    datasets = [_evaluated_dataset(evaluation, dataset) for dataset in evaluation.datasets]
    return RunProvenance(facts, datasets, evaluation.stages, text)


def _model_facts(config: RunConfig) -> dict[str, str]:
    model, distill = config.model, config.distill
    revision = f", revision {model.revision}" if model.revision else ""
    return {
        "model": f"{model.path}{revision}, {model.dtype}",
        "student": (
            f"LoRA r {distill.lora.rank}, {distill.epochs:g} epochs, "
            f"{distill.global_batch} images a step, learning rate {distill.learning_rate:g}, "
            f"replay {distill.replay:g}"
            + (f", processor {distill.processor_args}" if distill.processor_args else "")
        ),
    }


def _evaluated_dataset(evaluation: Evaluation, dataset: str) -> EvaluatedDataset:
    cells = [cell for key, cell in evaluation.cells.items() if key.dataset == dataset]
    spec = evaluation.config.data.get(dataset) if evaluation.config else None
    return EvaluatedDataset(
        name=dataset,
        num_samples=max(cell.num_samples for cell in cells),
        num_quarantined=max(cell.num_quarantined for cell in cells),
        levels=list(evaluation.ranks.get(dataset, {}).values()),
        distractors=spec.distractors if spec else None,
        num_options=spec.num_options if spec else None,
        is_zero_shot=evaluation.is_zero_shot(dataset),
    )


def _engine_text(fields: Mapping[str, Any]) -> str:
    """Return "vllm 0.12"; empty for a stage without an engine."""
    engine = fields.get("engine")
    if not isinstance(engine, Mapping):
        return ""
    return f"{engine.get('name', '')} {engine.get('version', '')}".strip()
