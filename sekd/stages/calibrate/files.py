"""``calibration.json``: the temperatures of a model, beside its adapter or in the run of the base.

The file names the weights that it belongs to, and is refused for others. It is no part of the
adapter's identity, so nothing is trained or evaluated again because of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pyarrow as pa
from pydantic import ValidationError

from sekd import __version__
from sekd.config import EngineName, ModelSpec, Paradigm
from sekd.config.base import Section
from sekd.config.messages import explain
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.artefacts import Artefact, write_artefact
from sekd.io.files import read_bytes
from sekd.io.hashing import digest
from sekd.io.locations import Location
from sekd.io.records import DamagedFileError
from sekd.models.adapters import adapter_identity
from sekd.models.loading import model_directory, weights_digest

logger = logging.getLogger(__name__)

CALIBRATION = "calibration"
FILE = f"{CALIBRATION}.json"


class BeforeAfter(Section):
    """A figure of the questions that were held out, without a temperature and with it."""

    before: float
    after: float


class LevelFit(Section):
    """The temperature of one level, and how well it fits."""

    rank: str
    """Rank of most of its nodes."""
    temperature: float
    """Divides the log-probabilities of the children."""
    num_questions: int
    """Number of questions that it was fitted on."""
    num_held_out: int
    """Number of questions behind the two figures below, which a fit on the others gave."""
    loss: BeforeAfter | None
    """Mean negative log-likelihood of the right child, in nats; ``None`` without such questions."""
    ece: BeforeAfter | None
    """Expected calibration error of the most probable child, in percent."""


class ParadigmFit(Section):
    """The temperatures of one paradigm, and on what they were fitted."""

    dataset: str
    """Name of the dataset in the config."""
    num_images: int
    """Number of its labelled images that were asked about."""
    images: str
    """Digest of the ids and labels of these images."""
    taxonomy: str
    """Digest of the taxonomy."""
    engine: EngineName
    """Engine that answered."""
    path_ece: BeforeAfter | None
    """Expected calibration error of the path down to each level, over the images held out."""
    levels: dict[int, LevelFit]
    """Level, from 1 below the root -> what was fitted."""


class CalibrationFile(Section):
    """The content of ``calibration.json``."""

    sekd: str = __version__
    """Version of sekd that wrote the file."""
    model: str
    """Digest of the weights of model and adapter, see :func:`calibrated_weights`."""
    paradigms: dict[Paradigm, ParadigmFit]
    """Paradigm -> what was fitted for it."""

    @classmethod
    def read(cls, folder: Location) -> Self | None:
        """Read the file of a folder; ``None`` if there is none.

        Raises:
            ConfigError: if it is not what was written.
        """
        path = folder / FILE
        try:
            content = read_bytes(path)
            artefact = Artefact.read(folder, CALIBRATION)
            if artefact is not None:
                artefact.check()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except DamagedFileError as error:
            raise ConfigError(f"{error}; run sekd calibrate again") from error
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            reasons = "; ".join(explain(error, cls))
            raise ConfigError(f"{path}: {reasons}; run sekd calibrate again") from error

    def write(self, folder: Location) -> None:
        """Write the file and its record."""
        text = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1)
        write_artefact(folder, CALIBRATION, {FILE: f"{text}\n"}, {"model": self.model})

    def temperatures(self, paradigm: Paradigm, taxonomy: Taxonomy) -> Mapping[int, float] | None:
        """Return level -> temperature; ``None``, and a line in the log, if none was fitted for it.

        A level in which no question had two answers has none, and needs none.
        """
        fit = self.paradigms.get(paradigm)
        if fit is None or fit.taxonomy != taxonomy.digest():
            other = f"paradigm {', '.join(self.paradigms)}" if fit is None else "another taxonomy"
            logger.info("%s: the calibration is of %s; uncalibrated", paradigm, other)
            return None
        return {level: each.temperature for level, each in fit.levels.items()}


def images_digest(rows: pa.Table) -> str:
    """Identify labelled images, by the ids and truths of predictions about them.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, of one cell.
    """
    ids, truths = (rows[name].to_pylist() for name in ("sample_id", "truth"))
    return digest(sorted(set(zip(ids, truths, strict=True))))


def calibrated_weights(spec: ModelSpec, adapter: Path | None) -> str:
    """Identify what a calibration belongs to: the weights of a model and its adapter.

    Raises:
        ConfigError: if the model or the adapter is not there.
    """
    identity = adapter_identity(adapter, "adapter") if adapter else None
    return digest({"weights": weights_digest(spec), "adapter": identity})


def find_calibration(
    spec: ModelSpec, adapter: Path | None, run: Location | None = None
) -> CalibrationFile | None:
    """Find the calibration of a model; ``None`` if it has none.

    It is in the folder of the adapter; for a model without one, in the model's own folder if it was
    exported, else in the run.

    Raises:
        ConfigError: if the file is damaged, or belongs to other weights.
    """
    places: list[Location] = [adapter] if adapter else [model_directory(spec)]
    if adapter is None and run is not None:
        places.append(run)
    for place in places:
        found = CalibrationFile.read(place)
        if found is not None:
            if found.model != calibrated_weights(spec, adapter):
                raise ConfigError(
                    f"{place / FILE}: it was fitted for other weights than those of {spec.path}"
                    f"{f' with {adapter}' if adapter else ''}; run sekd calibrate for these, or "
                    "remove the file"
                )
            return found
    return None
