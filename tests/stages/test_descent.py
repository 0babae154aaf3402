"""A descent: what it asks, what it does not ask, and the probabilities that it gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rules import RuleEngine

from sekd.config import DescentSpec, ElicitSpec, ModelSpec, load_config
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.data.toyworld import SEEN
from sekd.engines import Answer
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.stages.descent import Descent, descend
from sekd.stages.prepare import prepare_samples, run_conversations

LEAVES = [SEEN.path(leaf)[-1] for leaf in SEEN.leaves]
MASS = 0.8
"""The probability of all letters together."""


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> Chat:
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    return Chat(load_processor(spec), subject="organism")


class WeightEngine(RuleEngine):
    """Answers with probabilities in proportion to the weights of the names that are shown."""

    def __init__(self, chat: Chat, weights: Mapping[str, float]) -> None:
        super().__init__(chat, lambda _: 0)
        self.weights = weights
        self.shown: list[list[str]] = []

    def _respond(self, request: Any) -> Answer:
        text = self.chat.tokenizer.decode(request.prompt.token_ids)
        names = re.findall(r"\n [A-Z] \. (\S+)", text)[-len(request.option_ids) :]
        self.shown.append(names)
        shares = np.array([self.weights[name] for name in names])
        logprobs = np.log(MASS * shares / shares.sum()).astype(np.float32)
        return Answer(int(logprobs.argmax()), logprobs, len(request.prompt.token_ids), 0)


def weights_of(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    names = sorted({name for leaf in SEEN.leaves for name in SEEN.path(leaf)})
    return dict(zip(names, rng.exponential(size=len(names)).tolist(), strict=True))


Descender = Callable[..., tuple[Descent, WeightEngine]]


@pytest.fixture
def run_one(seen: Dataset, words: Chat) -> Descender:
    def run(
        paths: Mapping[str, Sequence[str]],
        weights: Mapping[str, float],
        spec: DescentSpec | None = None,
        **teacher: Any,
    ) -> tuple[Descent, WeightEngine]:
        dataset = replace(seen.without_quiz(), taxonomy=Taxonomy.from_paths(paths))
        sample = replace(dataset.samples[0], leaf=None)
        engine = WeightEngine(words, weights)
        (descent,) = run_conversations(
            engine,
            prepare_samples(dataset, [sample]),
            lambda one: descend(words, dataset, one, spec or DescentSpec(), ElicitSpec(**teacher)),
        )
        assert isinstance(descent, Descent)
        return descent, engine

    return run


@pytest.mark.parametrize("max_options", [2, 3, 5, 26])
@pytest.mark.parametrize("permutations", [1, 2])
def test_groups_and_a_final_give_the_distribution_of_one_question(
    run_one: Descender, max_options: int, permutations: int
) -> None:
    """81 children of one node: where odds do not depend on other options, nothing is lost."""
    weights = weights_of(0)
    descent, engine = run_one(
        {leaf: ["life", leaf] for leaf in LEAVES},
        weights,
        DescentSpec(max_options=max_options),
        permutations=permutations,
    )
    (level,) = descent.paths[0].levels
    expected = np.array([weights[node.name] for node in level.children])
    np.testing.assert_allclose(level.probabilities, expected / expected.sum(), rtol=1e-4)
    assert level.node.name == max(LEAVES, key=weights.__getitem__)
    assert level.option_mass == pytest.approx(MASS, rel=1e-5)
    assert max(map(len, engine.shown)) <= max_options
    assert min(map(len, engine.shown)) >= 2
    assert len(engine.shown) == sum(
        min(permutations, len(names)) for names in engine.shown[::permutations]
    )


def test_a_single_child_is_given_and_not_asked_about(run_one: Descender) -> None:
    a, b, c, d, e = LEAVES[:5]
    descent, engine = run_one({a: ["life", c, d, a], b: ["life", c, d, b]}, weights_of(0))
    assert [sorted(names) for names in engine.shown] == [sorted([a, b])]
    assert descent.num_questions == 1
    first, second, last = descent.paths[0].levels
    assert [first.node.name, second.node.name] == [c, d]
    assert [first.probability, second.probability] == [1.0, 1.0]
    assert first.option_mass is second.option_mass is None
    assert last.option_mass == pytest.approx(MASS, rel=1e-5)
    asked = engine.chat.tokenizer.decode(engine.runs[0][0].prompt.token_ids)
    assert c in asked
    assert d in asked  # what is given is a known fact of the first question
    alone, engine = run_one({e: ["life", c, e]}, weights_of(0))
    assert engine.shown == []
    assert (alone.num_questions, alone.paths[0].probability) == (0, 1.0)


def test_a_path_probability_is_the_product_of_its_nodes(run_one: Descender) -> None:
    weights = weights_of(1)
    descent, _ = run_one(SEEN.taxonomy(), weights)
    levels = descent.paths[0].levels
    assert len(levels) == 4
    assert descent.num_questions == 4
    for level in levels:
        assert level.probabilities.sum() == pytest.approx(1.0)
        assert level.node is level.children[int(level.probabilities.argmax())]
    products = np.cumprod([level.probability for level in levels])
    np.testing.assert_allclose([level.path_probability for level in levels], products)


def test_a_wide_beam_finds_the_most_probable_paths(run_one: Descender) -> None:
    weights = weights_of(2)
    descent, _ = run_one(SEEN.taxonomy(), weights, DescentSpec(beam=81))

    def probability(path: Sequence[str]) -> float:
        product = 1.0
        for depth in range(1, len(path)):
            siblings = {other[depth] for other in paths if other[:depth] == path[:depth]}
            product *= weights[path[depth]] / sum(weights[name] for name in siblings)
        return product

    paths = list(SEEN.taxonomy().values())
    expected = sorted(map(probability, paths), reverse=True)
    found = [path.probability for path in descent.paths]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert sum(found) == pytest.approx(1.0, rel=1e-4)
    best = max(paths, key=probability)
    assert [level.node.name for level in descent.paths[0].levels] == best[1:]
    narrow, _ = run_one(SEEN.taxonomy(), weights, DescentSpec(beam=2))
    assert len(narrow.paths) == 2
    assert narrow.paths[0].probability >= run_one(SEEN.taxonomy(), weights)[0].paths[0].probability


@pytest.mark.parametrize("style", ["dialogue", "facts"])
def test_later_questions_know_the_answers(run_one: Descender, style: str) -> None:
    descent, engine = run_one(
        SEEN.taxonomy(), weights_of(1), DescentSpec(max_options=2), style=style
    )
    answers = [level.node.name for level in descent.paths[0].levels]
    last = engine.chat.tokenizer.decode(engine.runs[0][-1].prompt.token_ids)
    for name in answers[:-1]:
        assert name in last
    assert last.count("<user>") == (1 if style == "facts" else 4)


def test_a_leaf_that_has_children_can_be_the_end(run_one: Descender) -> None:
    a, b, c = LEAVES[:3]
    paths = {a: ["life", c, a], c: ["life", c], b: ["life", b]}
    descent, engine = run_one(paths, {a: 0.1, b: 0.2, c: 0.7})
    assert [sorted(names) for names in engine.shown] == [sorted([b, c]), sorted([a, c])]
    assert descent.paths[0].leaf.id == f"life/{c}"
    assert [level.node.id for level in descent.paths[0].levels] == [f"life/{c}"] * 2
    deeper, _ = run_one(paths, {a: 0.9, b: 0.2, c: 0.7})
    assert deeper.paths[0].leaf.id == f"life/{c}/{a}"


def test_siblings_that_read_alike_are_shown_once(run_one: Descender) -> None:
    a, b = LEAVES[:2]
    paths = {"1": ["life", a], "2": ["life", a.upper()], "3": ["life", b]}
    descent, engine = run_one(paths, {a: 0.75, b: 0.25})
    assert [sorted(names) for names in engine.shown] == [sorted([a, b])]
    np.testing.assert_allclose(
        descent.paths[0].levels[0].probabilities, [0.375, 0.375, 0.25], rtol=1e-5
    )
    (level,) = run_one({"1": ["life", a], "2": ["life", a.upper()]}, {})[0].paths[0].levels
    assert level.probabilities.tolist() == [0.5, 0.5]


def test_no_label_is_looked_at(world: Path, words: Chat) -> None:
    """The prompts of a labelled sample are those of the same sample without its label."""
    config = load_config(world / "config.yaml")
    dataset = Dataset.load("seen", config.data["seen"]).without_quiz()
    prompts = []
    for leaf in (dataset.samples[0].leaf, dataset.samples[-1].leaf, None):
        engine = WeightEngine(words, weights_of(3))
        sample = replace(dataset.samples[0], leaf=leaf)
        list(
            run_conversations(
                engine,
                prepare_samples(dataset, [sample]),
                lambda one: descend(words, dataset, one, DescentSpec(max_options=2), config.elicit),
            )
        )
        prompts.append([request.prompt.token_ids for request in engine.runs[0]])
    assert prompts[0] == prompts[1] == prompts[2]
