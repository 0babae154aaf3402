"""Open naming: whatever a model prefers, the most probable path of the taxonomy comes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from chats import build_bpe_processor
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from random_taxonomies import taxonomies

from sekd.data.samples import Dataset
from sekd.data.taxonomy import Node, Taxonomy
from sekd.engines import Answer, Ask, Conversation
from sekd.engines.driver import run_one_by_one
from sekd.models.chat import Chat, TokenIds
from sekd.models.open_naming import AnswerRange, OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.naming import name_path, name_paths
from sekd.stages.path_rules import PathRules
from sekd.stages.prepare import PreparedSample
from sekd.stages.restriction import Restriction

Logprobs = Callable[[TokenIds, TokenIds], Sequence[float]]
"""Returns the log-probabilities of some tokens behind others."""


@pytest.fixture(scope="module")
def letters() -> Chat:
    """A chat that can write any name, most of them in many tokens."""
    return Chat(build_bpe_processor(), subject="organism")


@pytest.fixture(scope="module")
def prepared(seen: Dataset) -> PreparedSample:
    return PreparedSample(seen.samples[0], Image.new("RGB", (56, 56)), "key", None)


def follow(
    answers: OpenAnswers, prepared: PreparedSample, model: Logprobs
) -> tuple[list[PathStep], list[Ask]]:
    """Let a model name the path; returns the steps and what it was asked."""
    return run(name_path(answers, prepared), model)


def run(conversation: Conversation[Any], model: Logprobs) -> tuple[Any, list[Ask]]:
    """Hold a conversation with a model; returns its result and what the model was asked."""
    asked: list[Ask] = []

    def respond(requests: Sequence[Any]) -> list[Answer]:
        asked.extend(requests)
        responses = []
        for request in requests:
            logprobs = np.array(
                model(request.prompt.token_ids, request.option_ids), dtype=np.float32
            )
            responses.append(Answer(int(logprobs.argmax()), logprobs, 9, 0))
        return responses

    (result,) = run_one_by_one([conversation], respond)
    return result, asked


def seeded(seed: int) -> Logprobs:
    """A model with any preferences, always the same ones behind the same tokens."""

    def logprobs(prefix_ids: TokenIds, option_ids: TokenIds) -> list[float]:
        rng = random.Random(f"{seed}:{prefix_ids}")
        return [-rng.expovariate(0.3) - 0.01 for _ in option_ids]

    return logprobs


def who_knows(token_ids: TokenIds) -> Logprobs:
    """A model that writes exactly this text."""

    def logprobs(prefix_ids: TokenIds, option_ids: TokenIds) -> list[float]:
        if token_ids[: len(prefix_ids)] != prefix_ids:
            return [-3.0] * len(option_ids)  # a child that is written with the same tokens
        assert token_ids[len(prefix_ids)] in option_ids
        return [-0.1 if token == token_ids[len(prefix_ids)] else -9.0 for token in option_ids]

    return logprobs


def exact(answers: OpenAnswers, model: Logprobs, below: AnswerRange) -> dict[int, float]:
    """Map the index of each answer to its log-probability, by asking about every branch."""
    if below.stop - below.start == 1:
        return {below.start: 0.0}
    branch = answers.branch(below)
    logprobs = np.array(model(branch.prefix_ids, branch.token_ids), np.float32).astype(np.float64)
    logprobs -= np.logaddexp.reduce(logprobs)
    return {
        index: logprob + rest
        for logprob, behind in zip(logprobs.tolist(), branch.ranges, strict=True)
        for index, rest in exact(answers, model, behind).items()
    }


def check_path(taxonomy: Taxonomy, steps: Sequence[PathStep]) -> Node:
    """Check that steps are a path to a leaf, each with a distribution; returns the leaf."""
    node = taxonomy.root
    for step in steps:
        assert step.node in step.children
        assert set(step.children) <= {node, *taxonomy.children(node)}
        assert (node in step.children) <= (node.id in taxonomy.leaf_ids)
        assert len(step.logprobs) == len(step.children)
        assert np.exp(step.logprobs).sum() == pytest.approx(1, abs=1e-6)
        if step.node is node:
            assert step is steps[-1]
        node = step.node
    assert node.id in taxonomy.leaf_ids
    return node


@settings(max_examples=1000, deadline=None)
@given(taxonomy=taxonomies())
def test_every_answer_is_a_path_with_the_probability_of_its_tokens(
    letters: Chat, prepared: PreparedSample, taxonomy: Taxonomy
) -> None:
    answers = OpenAnswers(letters, taxonomy)
    model = seeded(len(taxonomy))
    steps, asked = follow(answers, prepared, model)
    leaf = check_path(taxonomy, steps)
    for request in asked:
        assert len(set(request.option_ids)) == len(request.option_ids) > 1
    # The probability of the path is that of its tokens: the product over its branches.
    total = 0.0
    for _, branch, index in answers.branches_to(leaf):
        logprobs = np.array(model(branch.prefix_ids, branch.token_ids), np.float32)
        total += float(logprobs[index] - np.logaddexp.reduce(logprobs.astype(np.float64)))
    given = [step.logprobs[step.children.index(step.node)] for step in steps]
    assert sum(given) == pytest.approx(total, abs=1e-4)


SPLIT = Taxonomy.from_paths(
    {
        "a": ["life", "a\nb", "a b"],
        "b": ["life", "a\nb"],
        "c": ["life", "Picus minor", "Picus", "a\nb"],
        "d": ["life", "Picus", "Picus", "Picus minor"],
        "e": ["life", "Picus"],
    }
)
"""``Picus`` ends its answer, goes on with the next line, or is ``Picus minor``."""


@settings(max_examples=500, deadline=None)
@example(taxonomy=SPLIT, seed=0)
@given(taxonomy=taxonomies(), seed=st.integers(0, 9))
def test_the_chosen_child_is_the_most_probable_of_all(
    letters: Chat, prepared: PreparedSample, taxonomy: Taxonomy, seed: int
) -> None:
    answers = OpenAnswers(letters, taxonomy)
    model = seeded(seed)
    steps, _ = follow(answers, prepared, model)
    probability_of = {
        AnswerRange(index, index + 1): float(np.exp(logprob))
        for index, logprob in exact(answers, model, answers.all).items()
    }
    assert sum(probability_of.values()) == pytest.approx(1)
    for depth, step in enumerate(steps):
        children: dict[Node, float] = {}
        for answer, probability in probability_of.items():
            (child,) = answers.outcomes(answer, depth)
            children[child] = children.get(child, 0.0) + probability
        assert set(step.children) == children.keys()
        given = sum(children.values())
        assert np.exp(step.logprobs.max()) == pytest.approx(max(children.values()) / given)
        index = step.children.index(step.node)
        assert np.exp(step.logprobs[index]) == pytest.approx(children[step.node] / given)
        assert step.logprobs[index] == pytest.approx(step.logprobs.max())
        probability_of = {
            answer: probability
            for answer, probability in probability_of.items()
            if answers.outcomes(answer, depth) == (step.node,)
        }


@settings(max_examples=300, deadline=None)
@given(taxonomy=taxonomies(), num_paths=st.integers(1, 6), data=st.data())
def test_the_most_probable_paths_of_all_are_found(
    letters: Chat, prepared: PreparedSample, taxonomy: Taxonomy, num_paths: int, data: st.DataObject
) -> None:
    answers = OpenAnswers(letters, taxonomy)
    model = seeded(len(taxonomy))
    leaf_of = {
        index: answers.outcomes(AnswerRange(index, index + 1), 99)[0]
        for index in range(*answers.all)
    }
    chosen = data.draw(
        st.sets(st.sampled_from(sorted({leaf.id for leaf in leaf_of.values()})), min_size=1)
    )
    allowed = Restriction.to_leaves(taxonomy, chosen)
    rules = PathRules(restriction=allowed)
    found = run(name_paths(answers, prepared, num_paths, rules), model)[0]
    logprob_of = {
        leaf_of[index].id: logprob
        for index, logprob in exact(answers, model, answers.all).items()
        if leaf_of[index].id in allowed.leaf_ids
    }
    best = sorted(logprob_of.values(), reverse=True)[:num_paths]
    leaves = [check_path(taxonomy, steps).id for steps in found]
    assert len(set(leaves)) == len(leaves)
    assert [logprob_of[leaf] for leaf in leaves] == pytest.approx(best, abs=1e-4)
    for leaf, steps in zip(leaves, found, strict=True):
        total = sum(step.logprobs[step.children.index(step.node)] for step in steps)
        assert total == pytest.approx(logprob_of[leaf], abs=1e-4)
    steps = run(name_path(answers, prepared, rules), model)[0]
    assert check_path(taxonomy, steps).id in allowed.leaf_ids


@settings(max_examples=200, deadline=None)
@given(taxonomy=taxonomies())
def test_a_model_that_knows_the_path_is_understood(
    letters: Chat, prepared: PreparedSample, taxonomy: Taxonomy
) -> None:
    answers = OpenAnswers(letters, taxonomy)
    for leaf_id in sorted(taxonomy.leaf_ids)[:4]:
        leaf = taxonomy[leaf_id]
        transcript = answers.transcript(leaf)
        steps, asked = follow(answers, prepared, who_knows(transcript.token_ids))
        named = check_path(taxonomy, steps)
        assert answers.transcript(named).token_ids == transcript.token_ids
        assert len(asked) <= sum(len(step.children) > 1 for step in steps) * 40


TREE = Taxonomy.from_paths(
    {
        "a": ["life", "birds", "Picus"],
        "b": ["life", "birds", "Picus minor"],
        "c": ["life", "birds", "Picus minor", "North"],
        "d": ["life", "birds", "Pica", "North"],
        "e": ["life", "plants", "Picus"],
        "f": ["life", "stones", "flint", "grey", "Grey"],
    }
)
"""Prefixes, names that share tokens, a leaf with a child, one name under two parents, and single
children."""


@pytest.mark.parametrize("leaf_id", sorted(TREE.leaf_ids))
def test_hard_names_are_told_apart(letters: Chat, prepared: PreparedSample, leaf_id: str) -> None:
    chat, answers = letters, OpenAnswers(letters, TREE)
    transcript = answers.transcript(TREE[leaf_id])
    steps, asked = follow(answers, prepared, who_knows(transcript.token_ids))
    assert check_path(TREE, steps).id == leaf_id
    path = TREE.path(TREE[leaf_id])
    assert [step.node for step in steps[: len(path)]] == path
    written = [i for i, own in zip(transcript.token_ids, transcript.is_target, strict=True) if own]
    assert chat.decode(written).split("\n")[-1].endswith(path[-1].name)
    for position, node in zip(transcript.positions, path, strict=True):
        behind = chat.decode(transcript.token_ids[position:])
        assert behind.lstrip().startswith(node.name.split()[0])
    assert "North" in path[-1].name or len(asked) <= 4


def test_nothing_is_asked_where_the_taxonomy_leaves_no_choice(
    letters: Chat, prepared: PreparedSample
) -> None:
    answers = OpenAnswers(letters, TREE)
    flint = TREE["life/stones/flint/grey/Grey"]
    steps, asked = follow(answers, prepared, who_knows(answers.transcript(flint).token_ids))
    assert len(asked) == 1
    assert [len(step.children) for step in steps] == [3, 1, 1, 1]
    alone = OpenAnswers(letters, Taxonomy.from_paths({"x": ["life", "only", "one"]}))
    steps, asked = follow(alone, prepared, seeded(0))
    assert (len(steps), asked) == (2, [])


def test_leaves_with_the_same_tokens_are_counted(
    letters: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    double = Taxonomy.from_paths({"a": ["life", "a b"], "b": ["life", "a\nb"], "c": ["life", "c"]})
    answers = OpenAnswers(letters, double)
    assert answers.all.stop == 2
    assert "1 leaves are written with the same tokens as another one" in caplog.text
