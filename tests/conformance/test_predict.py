"""One answer everywhere: predict, evaluate and export, a folder or merged, in every engine."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from math import exp
from pathlib import Path

import pytest
from vllm_args import vllm_args

from sekd.config import Paradigm, RunConfig, load_config
from sekd.data.image_inputs import list_images, samples_of
from sekd.data.path_predictions import PathPrediction
from sekd.data.predictions import PREDICTIONS, read_predictions
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.engines import Engine, open_engine
from sekd.models.chat import load_chat
from sekd.models.usage import write_usage_files
from sekd.stages.evaluate.candidates import Candidate, EngineCache
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell
from sekd.stages.export.run import run_export
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.setup import PredictorSpec, set_up

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ENGINES = [
    "transformers",
    pytest.param(
        "vllm",
        marks=[pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")],
    ),
]
WAYS: Mapping[Paradigm, bool] = {"open": False, "descent": True}
"""Paradigm of an evaluation -> whether a prediction is stepwise."""
FOLDERS = ("adapter", "exported", "merged")

Answers = dict[str, tuple[list[str], float]]
"""File name of an image -> ids of the nodes of its path, and the probability of the path."""


@dataclass(frozen=True)
class Students:
    """One student in three folders: as it was trained, exported, and exported as a whole model."""

    config: RunConfig
    seen: Dataset
    adapter: Path
    exported: Path
    merged: Path

    def evaluate(self, engine: str) -> dict[Paradigm, Answers]:
        """What an evaluation stores about the images."""
        config = self.config.model_copy(
            update={"evaluate": self.config.evaluate.model_copy(update=_engine(engine))}
        )
        student = Candidate("student", config.model, self.adapter)
        engines, answers = EngineCache(), {}
        for paradigm in WAYS:
            cell = EvaluationCell(student, self.seen, paradigm)
            worker = CellWorker(config, cell, engines)
            folder = self.adapter.parent / f"{engine}-{paradigm}"
            folder.mkdir()
            shard = Shard(0, tuple(self.seen.samples.ids.to_pylist()))
            result = worker.process(shard, folder, lambda _: None)
            answers[paradigm] = _stored(result.files[PREDICTIONS])
        engines.close()
        return answers

    def predict(self, engine: str, name: str) -> dict[Paradigm, Answers]:
        """What ``sekd predict`` says with one of the folders, loaded once for both ways."""
        samples = samples_of(
            list_images([str(self.config.data["seen"].images)]), self.seen.taxonomy
        )
        specs = {paradigm: self._spec(engine, name, paradigm) for paradigm in WAYS}
        with closing(_open(specs["open"])) as opened:
            return {
                paradigm: _answers_of(Predictor(spec, opened).predict(samples))
                for paradigm, spec in specs.items()
            }

    def _spec(self, engine: str, name: str, paradigm: Paradigm) -> PredictorSpec:
        folder = getattr(self, name)
        request = PredictionRequest(
            model=str(folder) if name == "merged" else None,
            adapter=None if name == "merged" else folder,
            is_stepwise=WAYS[paradigm],
            overrides=[f"evaluate.{key}={value}" for key, value in _engine(engine).items()],
        )
        return set_up(request)


def _engine(name: str) -> dict[str, object]:
    return {"engine": name, "engine_args": vllm_args(name)}


def _open(spec: PredictorSpec) -> Engine:
    chat = load_chat(spec.model, subject=spec.dataset.subject, wording=spec.dataset.wording)
    return open_engine(
        spec.evaluate.engine,
        spec.model,
        chat,
        adapter=spec.adapter,
        batch_size=spec.evaluate.runtime.batch_size,
        engine_args=spec.evaluate.engine_args,
    )


def _answers_of(predictions: Iterator[PathPrediction]) -> Answers:
    return {
        _file_name(each.image): ([level.node for level in each.levels], each.probability or 0.0)
        for each in predictions
    }


def _stored(path: Path) -> Answers:
    rows = read_predictions([path]).to_pylist()
    answers = {}
    for sample_id, levels in groupby(rows, key=lambda row: str(row["sample_id"])):
        path_rows = list(levels)
        nodes = [str(row["prediction"]) for row in path_rows]
        answers[_file_name(sample_id)] = nodes, exp(path_rows[-1]["path_logprob"])
    return answers


def _file_name(image: str) -> str:
    """The leaf's folder and the file, which an id and a path have in common."""
    return "/".join(Path(image).parts[-2:])


@pytest.fixture(scope="module")
def students(
    world: Path, seen: Dataset, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Students:
    folder = tmp_path_factory.mktemp("students")
    config = load_config(
        world / "config.yaml", ["distill.formats=[quiz,open]", "model.dtype=float32"]
    )
    shutil.copytree(adapter, folder / "adapter")
    write_usage_files(folder / "adapter", config, config.model, seen.taxonomy)
    run_export(str(folder / "adapter"), folder / "exported")
    run_export(str(folder / "adapter"), folder / "merged", is_merged=True)
    return Students(config, seen, *(folder / name for name in FOLDERS))


@pytest.fixture(scope="module")
def expected(students: Students) -> dict[Paradigm, Answers]:
    return students.evaluate("transformers")


def assert_same(got: dict[Paradigm, Answers], expected: dict[Paradigm, Answers]) -> None:
    assert got.keys() == expected.keys()
    for paradigm, answers in expected.items():
        assert got[paradigm].keys() == answers.keys()
        for image, (nodes, probability) in answers.items():
            assert got[paradigm][image][0] == nodes, (paradigm, image)
            assert got[paradigm][image][1] == pytest.approx(probability, abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_a_student_predicts_what_its_evaluation_stores(
    students: Students, expected: dict[Paradigm, Answers], engine: str, folder: str
) -> None:
    assert_same(students.predict(engine, folder), expected)


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")
def test_an_evaluation_stores_the_same_in_vllm(
    students: Students, expected: dict[Paradigm, Answers]
) -> None:
    assert_same(students.evaluate("vllm"), expected)


def test_the_student_answers_otherwise_than_its_base(
    students: Students, expected: dict[Paradigm, Answers]
) -> None:
    """Otherwise the tests above would hold whatever a folder forgets."""
    request = PredictionRequest(
        model=students.config.model.path,
        taxonomy=students.adapter / "taxonomy.json",
        is_stepwise=False,
    )
    with Predictor(set_up(request)) as predictor:
        images = str(students.config.data["seen"].images)
        samples = samples_of(list_images([images]), students.seen.taxonomy)
        answers = _answers_of(predictor.predict(samples))
    assert any(answers[image] != expected["open"][image] for image in answers)
