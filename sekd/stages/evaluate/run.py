"""Evaluation: run every cell, and write the metrics, the table and the rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.cost import COST_KEYS, MeanCost, mean_cost
from sekd.analysis.diagnosis import Scaling
from sekd.analysis.results import Evaluation
from sekd.analysis.summary import solve_options, summarize
from sekd.config import BASE, WITHOUT_QUIZ, RunConfig, dump_resolved
from sekd.data.image_hashes import ImageHashes
from sekd.data.predictions import EVALUATION, PREDICTIONS, read_predictions
from sekd.data.samples import Dataset, load_taxonomy
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.artefacts import write_artefact
from sekd.io.locations import Location
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.runner import IncompleteError, Outcome, run_settings, run_stage
from sekd.pipeline.stage import Stage
from sekd.report.tables import cells_table, controls_table
from sekd.report.writers import to_markdown
from sekd.stages.calibrate.files import find_calibration, images_digest
from sekd.stages.elicit.run import elicited_dataset
from sekd.stages.evaluate.candidates import EngineCache, candidates_of
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell, cell_fields, cells_of
from sekd.stages.fingerprints import hash_images
from sekd.stages.readiness import refuse_unlabelled
from sekd.stages.similar import with_similar

logger = logging.getLogger(__name__)


class Evaluated(NamedTuple):
    """The content of ``metrics.json``, and the cells that it was made from."""

    evaluation: Evaluation
    cells: Sequence[CellRows]


def run_evaluation(
    config: RunConfig, student: Path | None, folder: Location, *, retry_failed: bool = False
) -> Evaluated:
    """Run every cell of the evaluation; cells that are done are not run again.

    Args:
        student: the student's adapter; ``None`` leaves the student out.
        folder: where metrics.json, metrics.md, predictions.parquet and the config that they were
            made with are written. The cells themselves always stay below the run's directory.

    Raises:
        IncompleteError: if shards of some cells are left.
    """
    spec = config.evaluate
    datasets = evaluated_datasets(config)
    for dataset in datasets:
        refuse_unlabelled(dataset)
    cells = cells_of(config, candidates_of(config, student), datasets)
    finished = run_cells(config, cells, retry_failed=retry_failed)
    if "taxonomy" in spec.controls:
        with_options = [dataset for dataset in datasets if dataset.spec.options == "drawn"]
        finished += [solve_options(dataset, spec.seed) for dataset in with_options]
    finished.sort(key=lambda cell: spec.datasets.index(cell.key.dataset))
    trained_on = {} if student is None else count_trained_on(config, datasets)
    evaluation = summarize(finished, spec, _load_distilled_taxonomy(config), trained_on)
    _write_evaluation(config, evaluation, finished, folder)
    return Evaluated(evaluation, finished)


def evaluated_datasets(config: RunConfig) -> list[Dataset]:
    """Load the datasets of ``evaluate.datasets``, of which ``evaluate.limit`` samples are drawn."""
    spec = config.evaluate
    datasets = [
        Dataset.load(name, config.dataset(name, "evaluate.datasets")) for name in spec.datasets
    ]
    if spec.limit:
        datasets = [dataset.draw(spec.limit, spec.seed) for dataset in datasets]
    return [with_similar(dataset) for dataset in datasets]


def check_evaluation(config: RunConfig) -> None:
    """Check, before students are trained, that their evaluation can run.

    Raises:
        ConfigError: if a dataset cannot be loaded, or the paradigm that students learn is not
            evaluated.
    """
    if not evaluated_datasets(config):
        raise ConfigError("evaluate.datasets: none is named; give labelled images")
    learned = config.distill.learned_paradigm
    if learned not in config.evaluate.paradigms:
        raise ConfigError(
            f"evaluate.paradigms: {learned} is not among them, which students of distill.formats: "
            f"[{', '.join(config.distill.formats)}] learn"
        )


def run_cells(
    config: RunConfig, cells: Sequence[EvaluationCell], *, retry_failed: bool = False
) -> list[CellRows]:
    """Run cells that are not done, and return the rows of all of them.

    Raises:
        IncompleteError: if shards of some cells are left; the other cells are run all the same.
    """
    runtime = config.evaluate.runtime
    engines = EngineCache() if runtime.executor == "inline" else None
    settings = run_settings(runtime, retry_failed=retry_failed)
    try:
        outcomes = _run_stages(config, cells, engines, settings)
    finally:
        if engines is not None:
            engines.close()
    incomplete = [outcome for outcome in outcomes if outcome.manifest is None]
    if incomplete:
        raise IncompleteError(incomplete)
    manifests = [outcome.manifest for outcome in outcomes if outcome.manifest]
    return [_read_cell(config, *pair) for pair in zip(cells, manifests, strict=True)]


def _run_stages(
    config: RunConfig,
    cells: Sequence[EvaluationCell],
    engines: EngineCache | None,
    settings: Mapping[str, Any],
) -> list[Outcome]:
    """Run every cell, also where an earlier one was left incomplete."""
    shard_size = config.evaluate.runtime.shard_size
    inputs: dict[tuple[str, int], SampleInputs] = {}
    outcomes = []
    for cell in cells:
        dataset = cell.dataset
        key = dataset.name, len(dataset.samples)
        if key not in inputs:
            inputs[key] = SampleInputs.of(dataset, hash_images(dataset), shard_size)
        stage = Stage.open(
            config.run_dir / "predictions" / cell.folder, cell_fields(config, cell), inputs[key]
        )
        outcomes.append(run_stage(stage, partial(CellWorker, config, cell, engines), **settings))
    return outcomes


def _read_cell(config: RunConfig, cell: EvaluationCell, manifest: Manifest) -> CellRows:
    rows = read_predictions(list(manifest.files(PREDICTIONS).values()))
    return CellRows(
        key=CellKey(**cell.names),
        taxonomy=cell.dataset.taxonomy,
        rows=rows,
        num_quarantined=len(manifest.quarantined),
        cost=_mean_cost(manifest),
        scaling=_scaling_of(config, cell, rows),
    )


def _scaling_of(config: RunConfig, cell: EvaluationCell, rows: pa.Table) -> Scaling | None:
    """Find the temperatures of a cell's model, where the cell gives paths that they apply to."""
    candidate = cell.candidate
    if cell.paradigm not in WITHOUT_QUIZ or cell.control is not None:
        return None
    try:
        run = config.run_dir if candidate.name == BASE else None
        found = find_calibration(candidate.spec, candidate.adapter, run)
    except ConfigError as error:
        logger.warning("%s is evaluated uncalibrated: %s", candidate.name, error)
        return None
    if found is None:
        return None
    temperatures = found.temperatures(cell.paradigm, cell.dataset.taxonomy)
    if temperatures is None:
        return None
    fit = found.paradigms[cell.paradigm]
    same = fit.images == images_digest(rows)
    return Scaling(temperatures, fit.dataset, fit.num_images, is_same_data=same)


def _mean_cost(manifest: Manifest) -> MeanCost:
    stats = {key: manifest.stats(key) for key in (*COST_KEYS, "latency")}
    return mean_cost(stats, manifest.num_samples)


def count_trained_on(config: RunConfig, datasets: Sequence[Dataset]) -> dict[str, int]:
    """Count the images of each dataset that are among those that the student was trained on.

    Images are compared by the hashes of their content that earlier stages have cached.
    """
    try:
        trained = elicited_dataset(config)
    except ConfigError as error:
        logger.warning("whether images were trained on is not known: %s", error)
        return {}
    hashes = {image for image in ImageHashes(trained.samples) if image is not None}
    return {
        dataset.name: sum(image in hashes for image in ImageHashes(dataset.samples))
        for dataset in datasets
    }


def _load_distilled_taxonomy(config: RunConfig) -> Taxonomy:
    spec = config.dataset(config.elicit.dataset, "elicit.dataset")
    return load_taxonomy(spec)


def _write_evaluation(
    config: RunConfig, evaluation: Evaluation, cells: Sequence[CellRows], folder: Location
) -> None:
    """Write the results with the config that they were made with, and then their record."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([cell.rows for cell in cells]), buffer)
    tables = [cells_table(evaluation), controls_table(evaluation)]
    texts = [to_markdown(table) for table in tables if table.has_figures]
    contents: dict[str, str | bytes] = {
        "evaluate.config.yaml": dump_resolved(config),
        "predictions.parquet": buffer.getvalue().to_pybytes(),
        "metrics.md": "\n".join(texts),
        "metrics.json": json.dumps(evaluation.to_json(), indent=1) + "\n",
    }
    write_artefact(folder, EVALUATION, contents)
