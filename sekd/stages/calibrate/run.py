"""Calibration: fit the temperatures of a model on labelled images, and keep them beside it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.calibration import measure_calibration
from sekd.analysis.cells import CellRows
from sekd.analysis.temperature import (
    Choices,
    apply_temperatures,
    choices_by_level,
    fit_temperature,
)
from sekd.config import BASE, STUDENT, WITHOUT_QUIZ, Paradigm, RunConfig
from sekd.data.child_probabilities import has_children
from sekd.data.samples import Dataset
from sekd.errors import ConfigError
from sekd.io.locations import Location
from sekd.models.usage import Usage
from sekd.stages.calibrate.files import (
    FILE,
    BeforeAfter,
    CalibrationFile,
    LevelFit,
    ParadigmFit,
    calibrated_weights,
    images_digest,
)
from sekd.stages.distill.run import adapter_location
from sekd.stages.evaluate.candidates import Candidate, candidates_of
from sekd.stages.evaluate.cells import cells_of
from sekd.stages.evaluate.run import count_trained_on, evaluated_datasets, run_cells
from sekd.stages.readiness import refuse_unlabelled

logger = logging.getLogger(__name__)

_FEW_IMAGES = 100


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration.

    Attributes:
        model: name of the model in the config: base, student or one of ``evaluate.models``.
        file: ``calibration.json``.
        fits: paradigm -> what was fitted for it now.
    """

    model: str
    file: Location
    fits: dict[Paradigm, ParadigmFit]


def run_calibration(
    config: RunConfig,
    student: Path | None,
    dataset_name: str,
    model: str | None = None,
    *,
    retry_failed: bool = False,
) -> Calibrated:
    """Fit a temperature for each level, for each paradigm that gives whole paths.

    The predictions are those of an evaluation, which are asked for where they are not stored. The
    paradigms are those of ``evaluate.paradigms``, and the one that ``sekd predict`` takes.

    Args:
        student: the finished adapter, if there is one.
        dataset_name: of labelled images that no model was trained on.
        model: name of the model; the student if there is one, else the base.

    Raises:
        IncompleteError: if shards of predictions are left.
        ConfigError: if the images have no labels that a person gave, or there is no such model.
    """
    name = model or (BASE if student is None else STUDENT)
    candidate = _candidate(config, student, name)
    paradigms = [each for each in config.evaluate.paradigms if each in WITHOUT_QUIZ]
    changes = {
        "datasets": (dataset_name,),
        "paradigms": tuple(dict.fromkeys([*paradigms, _usual_paradigm(candidate)])),
        "controls": (),
    }
    spec = config.evaluate.model_copy(update=changes)
    config = config.model_copy(update={"evaluate": spec})
    folder: Location = config.run_dir if candidate.adapter is None else candidate.adapter
    (dataset,) = evaluated_datasets(config)
    _check_labels(dataset)
    if name == STUDENT:
        _warn_of_trained_images(config, dataset)
    asked = cells_of(config, [candidate], [dataset])
    answered = run_cells(config, asked, retry_failed=retry_failed)
    fits: dict[Paradigm, ParadigmFit] = {
        cell.paradigm: _fit_cell(rows, config) for cell, rows in zip(asked, answered, strict=True)
    }
    weights = calibrated_weights(candidate.spec, candidate.adapter)
    known = CalibrationFile.read(folder)
    earlier = {} if known is None or known.model != weights else known.paradigms
    calibration = CalibrationFile(model=weights, paradigms={**earlier, **fits})
    calibration.write(folder)
    if candidate.adapter is not None:
        folder = adapter_location(config.run_dir, candidate.adapter)
        if folder != candidate.adapter:
            calibration.write(folder)
    return Calibrated(name, folder / FILE, fits)


def _candidate(config: RunConfig, student: Path | None, name: str) -> Candidate:
    candidates = {each.name: each for each in candidates_of(config, student)}
    if name not in candidates:
        finished = "; no finished student for this config" if name == STUDENT else ""
        raise ConfigError(
            f"--model {name}: no such model; there are {', '.join(candidates)}{finished}"
        )
    candidate = candidates[name]
    if candidate.adapter is None and name != BASE:
        raise ConfigError(
            f"--model {name}: it is another model, whose folder is not this run's to write into; "
            "make it the model of a config of its own and calibrate its base"
        )
    return candidate


def _usual_paradigm(candidate: Candidate) -> Paradigm:
    """Return the paradigm of ``sekd predict``: names, where an adapter was taught to give them."""
    usage = None if candidate.adapter is None else Usage.read(candidate.adapter)
    return "open" if usage is not None and "open" in usage.formats else "descent"


def _check_labels(dataset: Dataset) -> None:
    refuse_unlabelled(dataset)
    labels = dataset.spec.labels
    if labels is not None and has_children(labels):
        raise ConfigError(
            f"data.{dataset.name}.labels: {labels} holds labels that a model gave, by which no "
            "model can be calibrated; give images with labels of people"
        )


def _warn_of_trained_images(config: RunConfig, dataset: Dataset) -> None:
    num_trained_on = count_trained_on(config, [dataset]).get(dataset.name, 0)
    if num_trained_on:
        logger.warning(
            "data.%s: the student was trained on %d of these images, about which it is surer than "
            "about others; calibrate it on images of their own",
            dataset.name,
            num_trained_on,
        )


def _fit_cell(cell: CellRows, config: RunConfig) -> ParadigmFit:
    rows = cell.rows
    num_images = len(pc.unique(rows["sample_id"]))
    if num_images < _FEW_IMAGES:
        logger.warning(
            "%s: %d labelled images are few: their temperatures stay near 1", cell.key, num_images
        )
    fitted_half, held_out_half = _halves(rows, config.evaluate.seed)
    everything = choices_by_level(rows)
    fitted, held_out = choices_by_level(fitted_half), choices_by_level(held_out_half)
    of_half = {level: fit_temperature(choices) for level, choices in fitted.items()}
    return ParadigmFit(
        dataset=cell.key.dataset,
        num_images=num_images,
        images=images_digest(rows),
        taxonomy=cell.taxonomy.digest(),
        engine=config.evaluate.engine,
        path_ece=_path_error(held_out_half, of_half),
        levels={
            level: _fit_level(
                _rank_of(rows, level), choices, held_out.get(level), of_half.get(level, 1.0)
            )
            for level, choices in everything.items()
        },
    )


def _fit_level(
    rank: str, choices: Choices, held_out: Choices | None, temperature: float
) -> LevelFit:
    """Fit a level on all questions.

    Args:
        held_out: questions of the one half of the images.
        temperature: as it was fitted on the other half.
    """
    loss = ece = None
    if held_out is not None:
        loss = BeforeAfter(before=held_out.loss(1.0), after=held_out.loss(temperature))
        ece = BeforeAfter(
            before=held_out.calibration_error(1.0), after=held_out.calibration_error(temperature)
        )
    return LevelFit(
        rank=rank,
        temperature=fit_temperature(choices),
        num_questions=len(choices),
        num_held_out=0 if held_out is None else len(held_out),
        loss=loss,
        ece=ece,
    )


def _halves(rows: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    """Split rows into those of one half of the images, drawn by the seed, and the other half."""
    ids = pc.unique(rows["sample_id"]).sort()
    drawn = np.random.default_rng(seed).permutation(len(ids))[: len(ids) // 2]
    is_drawn = pc.is_in(rows["sample_id"], ids.take(pa.array(drawn)))
    return rows.filter(is_drawn), rows.filter(pc.invert(is_drawn))


def _path_error(rows: pa.Table, temperatures: dict[int, float]) -> BeforeAfter | None:
    before = measure_calibration(rows)
    after = measure_calibration(apply_temperatures(rows, temperatures))
    if before is None or after is None:
        return None
    return BeforeAfter(before=before.all.ece, after=after.all.ece)


def _rank_of(rows: pa.Table, level: int) -> str:
    """Return the rank that most questions of a level ask for."""
    ranks = rows.filter(pc.equal(rows["level"], level))["rank"].value_counts()
    best = max(ranks.to_pylist(), key=lambda entry: int(entry["counts"]))
    return str(best["values"])
