"""How a run was made, from its config and its stages' records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sekd import __version__
from sekd.analysis.results import Evaluation, StageRecord
from sekd.io.hashing import digest


@dataclass(frozen=True)
class EvaluatedDataset:
    """A dataset that was measured; ``None`` is not known."""

    name: str
    num_samples: int
    num_quarantined: int
    levels: Sequence[str]
    distractors: str | None = None
    num_options: int | None = None
    is_zero_shot: bool | None = None
    """The student was not taught all of its taxonomy."""


@dataclass(frozen=True)
class Provenance:
    """Ready to be listed."""

    facts: Mapping[str, str]
    datasets: Sequence[EvaluatedDataset]
    made: Sequence[StageRecord]
    config: str
    """YAML; empty where there is none."""


def provenance_of(results: Evaluation) -> Provenance:
    """Everything that is known of how the run was made."""
    config = results.config
    facts: dict[str, str] = {}
    if config is not None:
        model = config.model
        revision = f", revision {model.revision}" if model.revision else ""
        facts["model"] = f"{model.path}{revision}, {model.dtype}"
        distill = config.distill
        facts["student"] = (
            f"LoRA r {distill.lora.rank}, {distill.epochs:g} epochs, "
            f"{distill.global_batch} images a step, learning rate {distill.learning_rate:g}, "
            f"replay {distill.replay:g}"
        )
    engines = dict.fromkeys(name for each in results.made if (name := _engine(each.fields)))
    if engines:
        facts["engine"] = ", ".join(engines)
    facts["root level"] = "scored" if results.root_is_scored else "shown, not scored"
    facts["report by"] = f"sekd {__version__}"
    text = ""
    if config is not None:
        text = yaml.safe_dump(
            config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        )
        facts["config"] = f"SHA-256 {digest(config.model_dump(mode='json'))[:16]}"
    return Provenance(facts, [_evaluated(results, d) for d in results.datasets], results.made, text)


def _evaluated(results: Evaluation, dataset: str) -> EvaluatedDataset:
    cells = [cell for key, cell in results.cells.items() if key.dataset == dataset]
    spec = results.config.data.get(dataset) if results.config else None
    return EvaluatedDataset(
        dataset,
        max(cell.num_samples for cell in cells),
        max(cell.num_quarantined for cell in cells),
        list(results.ranks.get(dataset, {}).values()),
        spec.distractors if spec else None,
        spec.num_options if spec else None,
        results.is_zero_shot(dataset),
    )


def _engine(fields: Mapping[str, Any]) -> str:
    engine = fields.get("engine")
    if not isinstance(engine, Mapping):
        return ""
    return f"{engine.get('name', '')} {engine.get('version', '')}".strip()
