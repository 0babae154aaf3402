"""The predictor in both engines: the answers of the evaluation, under rules, and never a stop."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest
from vllm_args import vllm_args

from sekd.config import Paradigm, load_config
from sekd.data.image_inputs import list_images, samples_of
from sekd.data.path_predictions import PathPrediction
from sekd.data.predictions import PREDICTIONS, read_predictions
from sekd.data.samples import Dataset, Samples
from sekd.data.shards import Shard
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell
from sekd.stages.path_rules import PathRules
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.setup import PredictorSpec, set_up
from sekd.stages.restriction import Restriction

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ENGINES = [
    "transformers",
    pytest.param(
        "vllm",
        marks=[pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")],
    ),
]
SETTINGS = ("descent.max_options=2",)
"""Three children are two groups and a final."""


@pytest.fixture(scope="module")
def samples(world: Path, seen: Dataset) -> Samples:
    return samples_of(list_images([str(world / "seen" / "images")]), seen.taxonomy)


def spec_of(world: Path, *, is_stepwise: bool, engine: str = "transformers") -> PredictorSpec:
    args = vllm_args(engine)
    overrides = [*SETTINGS, f"evaluate.engine={engine}", f"evaluate.engine_args={args}"]
    request = PredictionRequest(
        run=world / "config.yaml", is_stepwise=is_stepwise, overrides=overrides
    )
    return set_up(request)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Predict = Callable[..., list[PathPrediction]]


@pytest.fixture(scope="module")
def predict(world: Path, engine: str, samples: Samples) -> Iterator[Predict]:
    """Predicts the images of the world with an engine that stays open."""
    loaded = Predictor(spec_of(world, is_stepwise=True, engine=engine))

    def run(
        *, is_stepwise: bool, rules: PathRules | None = None, num_paths: int = 1
    ) -> list[PathPrediction]:
        spec = spec_of(world, is_stepwise=is_stepwise, engine=engine)
        beam = max(1, num_paths)
        spec = replace(
            spec,
            num_paths=num_paths,
            rules=rules or spec.rules,
            descent=spec.descent.model_copy(update={"beam": beam}),
        )
        return list(Predictor(spec, loaded._engine).predict(samples))

    yield run
    loaded.close()


WAYS: list[tuple[bool, Paradigm]] = [(True, "descent"), (False, "open")]


@pytest.mark.parametrize(("is_stepwise", "paradigm"), WAYS)
def test_predictions_are_the_answers_of_the_evaluation(
    predict: Predict,
    world: Path,
    samples: Samples,
    seen: Dataset,
    tmp_path: Path,
    is_stepwise: bool,
    paradigm: Paradigm,
) -> None:
    predictions = predict(is_stepwise=is_stepwise)
    assert [prediction.image for prediction in predictions] == samples.ids.to_pylist()
    config = load_config(world / "config.yaml", SETTINGS)
    worker = CellWorker(config, EvaluationCell(Candidate("base", config.model), seen, paradigm))
    shard = Shard(0, tuple(seen.samples.ids.to_pylist()))
    result = worker.process(shard, tmp_path, lambda _: None)
    rows = read_predictions([result.files[PREDICTIONS]]).to_pylist()
    depth = max(row["level"] for row in rows)
    assert len(rows) == depth * len(predictions)
    for number, prediction in enumerate(predictions):
        answers = rows[number * depth : (number + 1) * depth]
        assert prediction.image.endswith(answers[0]["sample_id"])
        assert [level.node for level in prediction.levels] == [row["prediction"] for row in answers]
        for level, row in zip(prediction.levels, answers, strict=True):
            assert level.path_probability == pytest.approx(exp(row["path_logprob"]), rel=1e-3)
        assert prediction.probability == prediction.paths[0].probability


@pytest.mark.parametrize("is_stepwise", [True, False])
def test_the_first_of_several_paths_is_the_most_probable(
    predict: Predict, is_stepwise: bool
) -> None:
    alone = predict(is_stepwise=is_stepwise)
    several = predict(is_stepwise=is_stepwise, num_paths=3)
    for one, three in zip(alone, several, strict=True):
        probabilities = [path.probability for path in three.paths]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1 + 1e-9
        assert three.levels[-1].node == three.paths[0].leaf
        assert three.probability is not None
        assert one.probability is not None
        assert three.probability >= one.probability * (1 - 1e-3)


@pytest.mark.parametrize("is_stepwise", [True, False])
def test_a_restriction_renormalises_and_shows_what_it_took_away(
    predict: Predict, seen: Dataset, is_stepwise: bool
) -> None:
    tree = seen.taxonomy
    order = tree.children(tree.root)[0]
    restriction = Restriction.of(tree, subtrees=[order.id])
    assert restriction is not None
    free = predict(is_stepwise=is_stepwise)
    bound = predict(is_stepwise=is_stepwise, rules=PathRules(restriction=restriction))
    for one, other in zip(free, bound, strict=True):
        assert one.outside is None
        assert other.outside is not None
        assert {level.node for level in other.levels} <= restriction.node_ids
        assert other.levels[0].probability == pytest.approx(1)
        # Only the first choice had anything to lose, and lost what others had in it.
        first = one.levels[0]
        lost = 1 - first.probability if first.node == order.id else first.probability
        if first.node == order.id:
            assert other.outside == pytest.approx(lost, abs=1e-3)
            assert [level.node for level in one.levels] == [level.node for level in other.levels]
        else:
            assert other.outside >= lost - 1e-3


@pytest.mark.parametrize("is_stepwise", [True, False])
def test_temperatures_change_probabilities_and_no_path(predict: Predict, is_stepwise: bool) -> None:
    before = predict(is_stepwise=is_stepwise)
    after = predict(is_stepwise=is_stepwise, rules=PathRules(temperatures={1: 2.0, 3: 0.5}))
    for one, other in zip(before, after, strict=True):
        assert [level.node for level in one.levels] == [level.node for level in other.levels]
        assert (one.is_calibrated, other.is_calibrated) == (False, True)
        assert one.levels[1].probability == pytest.approx(other.levels[1].probability, rel=1e-3)
        if one.levels[0].probability < 1 - 1e-6:
            assert log(other.levels[0].probability) < log(one.levels[0].probability)


@pytest.mark.parametrize("is_stepwise", [True, False])
def test_paths_end_at_the_rank_that_is_asked_for(predict: Predict, is_stepwise: bool) -> None:
    whole = predict(is_stepwise=is_stepwise)
    cut = predict(is_stepwise=is_stepwise, rules=PathRules(last_rank="family"))
    for one, other in zip(whole, cut, strict=True):
        assert [level.rank for level in other.levels] == ["order", "family"]
        assert [level.node for level in other.levels] == [level.node for level in one.levels[:2]]


def test_images_that_cannot_be_used_keep_their_place(world: Path, tmp_path: Path) -> None:
    good = next((world / "seen" / "images").rglob("*.png"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no image", "utf-8")
    inputs = [str(tmp_path / "absent.png"), str(broken), str(good), str(text)]
    spec = spec_of(world, is_stepwise=False)
    with Predictor(spec) as predictor:
        predictions = list(predictor.predict(samples_of(list_images(inputs), spec.taxonomy)))
    assert [prediction.image for prediction in predictions] == inputs
    errors = [prediction.error for prediction in predictions]
    assert errors[0] == "no such image"
    assert errors[1] is not None
    assert errors[1].startswith("cannot be read: ")
    assert errors[2:] == [None, "not an image"]
    assert [bool(prediction.levels) for prediction in predictions] == [False, False, True, False]
