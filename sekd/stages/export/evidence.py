"""Gather results and hashes of an exported student for its model card."""

from __future__ import annotations

from collections.abc import Iterator

from huggingface_hub import EvalResult

from sekd.analysis.results import Evaluation
from sekd.config import STUDENT
from sekd.data.taxonomy import Taxonomy
from sekd.models.adapters import adapter_identity
from sekd.models.loading import weights_digest
from sekd.report.tables import cells_table, controls_table
from sekd.report.writers import to_markdown
from sekd.stages.calibrate.files import CalibrationFile
from sekd.stages.distill.card import Evidence
from sekd.stages.export.source import ExportSource

_METRICS = {"hca": "HCA", "leaf_accuracy": "leaf accuracy"}
"""Metric -> its name on the hub."""


def gather_evidence(
    found: ExportSource,
    calibration: CalibrationFile | None,
    taxonomy: Taxonomy,
    *,
    is_merged: bool,
    licence: str | None,
) -> Evidence:
    """Gather results, controls, calibration and hashes of a student.

    Args:
        licence: in place of the base model's.
    """
    evaluation = found.evaluation
    controls = controls_table(evaluation) if evaluation else None
    return Evidence(
        results=[*_eval_results(evaluation)] if evaluation else [],
        cells=to_markdown(cells_table(evaluation)) if evaluation else "",
        controls=to_markdown(controls) if controls and controls.has_figures else "",
        calibration=_calibrated_on(calibration) if calibration else "",
        licence=licence,
        taxonomy=f"{len(taxonomy.leaf_ids):,} leaves; ranks: {', '.join(taxonomy.ranks)}",
        hashes={
            "Base weights": weights_digest(found.base),
            "Adapter": adapter_identity(found.adapter, "the student"),
            "Taxonomy": taxonomy.digest(),
        },
        is_merged=is_merged,
    )


def _eval_results(evaluation: Evaluation) -> Iterator[EvalResult]:
    """Yield the rates of the student, for the widget of the hub."""
    for cell in evaluation.plain_cells:
        key = cell.key
        if key.model != STUDENT:
            continue
        for metric, name in _METRICS.items():
            rate = cell.rate(metric)
            if rate is not None:
                yield EvalResult(
                    task_type="image-classification",
                    task_name="Hierarchical image classification",
                    dataset_type=key.dataset,
                    dataset_name=key.dataset,
                    metric_type=metric,
                    metric_name=f"{name}, {key.paradigm}, percent",
                    metric_value=round(rate.value, 2),
                    metric_config=key.paradigm,
                    metric_args={
                        "low": round(rate.low, 2),
                        "high": round(rate.high, 2),
                        "confidence_level": 0.95,
                        "num_samples": rate.num_samples,
                    },
                )


def _calibrated_on(calibration: CalibrationFile) -> str:
    return " and ".join(
        f"{fit.num_images:,} images of {fit.dataset} (`{paradigm}`)"
        for paradigm, fit in calibration.paradigms.items()
    )
