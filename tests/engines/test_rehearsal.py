"""The engine of ``sekd plan``: a teacher that answers right where there is a label."""

from __future__ import annotations

from sekd.config import DescentSpec, RunConfig
from sekd.data.samples import Dataset
from sekd.engines.rehearsal import RehearsalEngine
from sekd.models.chat import load_chat
from sekd.stages.answers import SampleAnswers
from sekd.stages.descent import Descent, descend
from sekd.stages.prepare import prepare_samples, run_conversations
from sekd.stages.walk import walk


def answers_of(config: RunConfig, dataset: Dataset) -> list[SampleAnswers]:
    chat = load_chat(config.model, subject="organism")
    engine = RehearsalEngine(chat)
    spec = config.elicit.model_copy(update={"permutations": 2})
    samples = prepare_samples(dataset, list(dataset.samples)[:6])
    outcomes = run_conversations(engine, samples, lambda one: walk(chat, dataset, one, spec))
    return [outcome for outcome in outcomes if isinstance(outcome, SampleAnswers)]


def test_labelled_samples_are_answered_right(config: RunConfig) -> None:
    dataset = Dataset.load("train", config.data["train"])
    answered = answers_of(config, dataset)
    assert len(answered) == 6
    for sample in answered:
        for answer in sample.levels:
            assert answer.choice == answer.question.right


def test_a_descent_of_labelled_samples_comes_to_the_leaf(config: RunConfig) -> None:
    dataset = Dataset.load("train", config.data["train"]).without_quiz()
    chat = load_chat(config.model, subject="organism")
    samples = prepare_samples(dataset, list(dataset.samples)[:6])
    spec = DescentSpec(max_options=2)
    descents = run_conversations(
        RehearsalEngine(chat),
        samples,
        lambda one: descend(chat, dataset, one, spec, config.elicit),
    )
    for descent in descents:
        assert isinstance(descent, Descent)
        (sample,) = dataset.samples.named([descent.sample_id])
        assert descent.paths[0].leaf == sample.leaf
