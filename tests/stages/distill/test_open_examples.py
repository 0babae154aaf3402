"""Open naming in training: its terms equal a float64 reference over whole texts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from elicited import NUM_SAMPLES, Elicited, elicit, student_of
from peft import PeftModel
from pydantic import ValidationError

from sekd.config import DistillSpec
from sekd.data.child_probabilities import has_children
from sekd.data.labels import DescentLabel, write_labels
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.models.open_naming import OpenAnswers
from sekd.stages.distill.collate import MicroBatch
from sekd.stages.distill.dataset import DistillDataset, JointExample, ReplayExample
from sekd.stages.distill.losses import branch_loss
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.open_examples import OpenExample, open_example

ALL = {"text": 0.5, "hard": 1.0, "format": 1.0, "soft": 2.0, "feature": 1.0, "replay": 1.0}


@pytest.fixture(scope="module")
def right(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Elicited:
    """A teacher whose options are siblings, so that it gives a distribution at every branch."""
    return elicit(world, tmp_path_factory.mktemp("siblings"), "data.train.distractors=siblings")


def named_examples(elicited: Elicited, **changes: object) -> list[OpenExample]:
    dataset = elicited.dataset(formats=["open"], replay=0.0, **changes)
    return [example for example in dataset if isinstance(example, OpenExample)]


def reference_terms(
    model: PeftModel,
    elicited: Elicited,
    examples: Sequence[OpenExample],
    batch: MicroBatch,
    spec: DistillSpec,
) -> Mapping[str, float]:
    """Compute the terms in float64, sample by sample, from the tokens of the whole texts."""
    terms = dict.fromkeys(("hard", "format", "text", "soft", "feature"), 0.0)
    assert batch.joint is not None
    with torch.inference_mode():
        output = model(**batch.joint.inputs, output_hidden_states=True)
    for row, example in enumerate(examples):
        transcript = example.transcript
        shift = int(batch.joint.inputs["attention_mask"][row].sum()) - len(transcript.token_ids)
        logprobs = output.logits[row].double().log_softmax(-1)
        branches = {branch.position: branch for branch in example.branches}
        num_targets = sum(transcript.is_target)
        num_levels = len({branch.level for branch in example.branches})
        for position, token in enumerate(transcript.token_ids):
            if not transcript.is_target[position]:
                continue
            before = position + shift - 1
            loss = -float(logprobs[before, token])
            terms["text"] += loss / num_targets
            if position not in branches:
                terms["format"] += loss / (num_targets - len(branches))
                continue
            terms["hard"] += loss / num_levels
            branch = branches[position]
            known = [index for index, mass in enumerate(branch.masses) if mass is not None]
            if len(known) < 2:
                continue
            teacher = torch.tensor([branch.masses[index] for index in known], dtype=torch.float64)
            tokens = torch.tensor([branch.token_ids[index] for index in known])
            student = logprobs[before, tokens].softmax(-1)
            teacher = teacher / teacher.sum()
            terms["soft"] += float((teacher * (teacher / student).log()).sum()) / num_levels
        for level, position in enumerate(transcript.positions):
            pair = (
                output.hidden_states[2][row, position + shift - 1],
                example.states["block_1"][level],
            )
            cosine = torch.cosine_similarity(pair[0].double(), pair[1].double(), dim=0)
            # The final state predicts another token; its distance counts as 0.
            terms["feature"] += float(1 - cosine) / 2 / len(transcript.positions)
    return {name: value / len(examples) for name, value in terms.items()}


def test_the_terms_of_open_naming_equal_the_reference(right: Elicited) -> None:
    spec = right.with_spec(losses=ALL, formats=["open"]).distill
    model, examples = student_of(right, spec), named_examples(right)
    assert examples
    batch = right.collate(examples)
    objective = Objective(model, right.config.model, spec, ["block_1", "final_norm"])
    with torch.inference_mode():
        terms = objective(model, batch)
    expected = reference_terms(model, right, examples, batch, spec)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=2e-5, rel=1e-4), name
        assert value > 1e-3, name


def test_a_mix_is_the_mean_of_its_formats(right: Elicited) -> None:
    """Quiz and open naming in one micro-batch: each term is the sum over both, by sequences."""
    spec = right.with_spec(losses=ALL, formats=["quiz", "open"]).distill
    model = student_of(right, spec)
    dataset = right.dataset(formats=["quiz", "open"], replay=0.0)
    quiz = [example for example in dataset if isinstance(example, JointExample)]
    named = [example for example in dataset if isinstance(example, OpenExample)]
    assert len(quiz) == NUM_SAMPLES
    assert len(dataset) == len(quiz) + len(named) > len(quiz)
    objective = Objective(model, right.config.model, spec, dataset.layers)
    mixed = [example for pair in zip(quiz, named, strict=False) for example in pair]
    with torch.inference_mode():
        both = objective(model, right.collate(mixed))
        alone = [objective(model, right.collate(part)) for part in (mixed[::2], mixed[1::2])]
    for name, value in both.items():
        mean = (alone[0][name] + alone[1][name]).item() / 2
        assert value.item() == pytest.approx(mean, abs=2e-5, rel=1e-4), name


def test_every_term_of_open_naming_reaches_the_adapter_alone(right: Elicited) -> None:
    for name in ("hard", "format", "soft", "feature"):
        weights = dict.fromkeys(ALL, 0.0) | {name: 1.0}
        spec = right.with_spec(losses=weights, formats=["open"]).distill
        model = student_of(right, spec)
        objective = Objective(model, right.config.model, spec, ["block_1", "final_norm"])
        batch = right.collate(named_examples(right))
        objective.weighted(objective(model, batch)).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert gradients, name
        assert all("lora_" in n for n in gradients)
        assert all(torch.isfinite(grad).all() for grad in gradients.values())
        assert any(grad.abs().max() > 0 for grad in gradients.values()), name


def test_the_mass_of_a_token_is_that_of_its_children(right: Elicited) -> None:
    answers = OpenAnswers(right.chat, right.taxonomy)
    (example, *_) = named_examples(right)
    leaf = right.taxonomy[example.sample.answers[-1].answer]
    path = right.taxonomy.path(leaf)
    parents = [right.taxonomy.root, *path]
    everything = {
        level: {child.id: 1 / 2**index for index, child in enumerate(right.taxonomy.children(node))}
        for level, node in enumerate(parents[:-1])
    }
    made = open_example(answers, example.sample, leaf, everything, example.states)
    first = next(branch for branch in made.branches if branch.level == 0)
    assert all(mass is not None for mass in first.masses)
    assert sum(mass or 0 for mass in first.masses) == pytest.approx(sum(everything[0].values()))
    for branch in made.branches:
        token = made.transcript.token_ids[branch.position]
        assert token in branch.token_ids
        assert made.transcript.is_target[branch.position]
    # A quiz whose options are of other parents says nothing about the children.
    nothing = open_example(answers, example.sample, leaf, {}, {})
    assert all(mass is None for branch in nothing.branches for mass in branch.masses)


def test_answers_that_are_no_path_are_not_named(
    right: Elicited, caplog: pytest.LogCaptureFixture
) -> None:
    paths = {
        tuple(node.id for node in right.taxonomy.path(right.taxonomy[leaf]))
        for leaf in right.taxonomy.leaf_ids
    }
    quiz = right.dataset(replay=0.0)
    answered = [tuple(answer.answer for answer in each.sample.answers) for each in quiz]
    with caplog.at_level("INFO"):
        named = named_examples(right)
    assert len(named) == sum(path in paths for path in answered)
    assert (len(named) < NUM_SAMPLES) == ("are no path to a leaf" in caplog.text)
    truth = right.dataset(
        formats=["open"], labels="truth", replay=0.0, losses={"soft": 0.0, "feature": 0.0}
    )
    assert len(truth) == NUM_SAMPLES


def test_replay_makes_up_its_share_of_any_format(right: Elicited) -> None:
    dataset = right.dataset(formats=["open"], replay=0.5)
    num_replayed = sum(isinstance(example, ReplayExample) for example in dataset)
    assert num_replayed == len(dataset) - num_replayed > 0


def test_the_default_format_is_in_no_fingerprint(elicited: Elicited) -> None:
    assert "formats" not in elicited.config.distill.model_dump()
    assert elicited.with_spec(formats=["open"]).distill.model_dump()["formats"] == ("open",)
    for formats in ([], ["open", "open"]):
        with pytest.raises(ValidationError, match="give quiz, open, or both"):
            elicited.with_spec(formats=formats)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
def test_unknown_tokens_have_no_part_in_the_loss(kind: str) -> None:
    logits = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    token_ids = torch.tensor([[1, 4, 6, 1], [2, 3, 2, 2]])
    teacher = torch.tensor(
        [[0.7, -math.inf, 0.3, -math.inf], [1.0, -math.inf, -math.inf, -math.inf]]
    )
    teacher = torch.where(teacher > 0, teacher.log(), -math.inf)
    loss = branch_loss(logits, token_ids, teacher, temperature=2.0, kind=kind)  # type: ignore[arg-type]
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert loss[1] == 0
    t = (torch.tensor([0.7, 0.3]).double().log() / 2).log_softmax(-1)
    s = (logits[0, [1, 6]].double() / 2).log_softmax(-1)
    m = torch.logaddexp(t, s) - math.log(2)
    expected = {
        "forward": (t.exp() * (t - s)).sum(),
        "reverse": (s.exp() * (s - t)).sum(),
        "jsd": ((t.exp() * (t - m)).sum() + (s.exp() * (s - m)).sum()) / 2,
    }
    assert loss[0].item() == pytest.approx(4 * expected[kind].item(), rel=1e-5)
    assert set(logits.grad[0].nonzero().flatten().tolist()) == {1, 6}


def test_a_teacher_without_a_path_leaves_nothing_to_name(elicited: Elicited) -> None:
    paths = {
        tuple(node.id for node in elicited.taxonomy.path(elicited.taxonomy[leaf]))
        for leaf in elicited.taxonomy.leaf_ids
    }
    answered = [
        tuple(answer.answer for answer in example.sample.answers)
        for example in elicited.dataset(replay=0.0)
    ]
    if any(path in paths for path in answered):
        assert named_examples(elicited)
    else:
        with pytest.raises(ConfigError, match="nothing to name"):
            named_examples(elicited)


def descent_of(taxonomy: Taxonomy, leaf: Node) -> list[dict[str, Any]]:
    """The levels of a descent to a leaf, as a table of labels has them, with uneven children."""
    levels = []
    for level, (parent, node) in enumerate(pairwise([taxonomy.root, *taxonomy.path(leaf)]), 1):
        children = [child.id for child in taxonomy.children(parent)]
        weights = [2.0**-index for index in range(len(children))]
        probabilities = [weight / sum(weights) for weight in weights]
        levels.append(
            {
                "level": level,
                "rank": node.rank,
                "node": node.id,
                "probability": probabilities[children.index(node.id)],
                "path_probability": 0.5,
                "option_mass": 1.0,
                "children": children,
                "probabilities": probabilities,
            }
        )
    return levels


def write_descents(path: Path, descents: Mapping[str, list[dict[str, Any]]]) -> Path:
    rows = [
        DescentLabel(
            sample_id=sample_id,
            image="",
            image_sha256="",
            label=levels[-1]["node"],
            probability=0.5,
            levels=levels,
            paths=[],
            num_questions=0,
            num_prompt_tokens=0,
            num_cached_tokens=0,
        )
        for sample_id, levels in descents.items()
    ]
    write_labels(rows, path)
    return path


def test_soft_targets_are_those_of_all_children_where_a_descent_gave_them(
    right: Elicited, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At each branching token: the sum over the children whose name goes on with it."""
    taxonomy, answers = right.taxonomy, OpenAnswers(right.chat, right.taxonomy)
    paths = [taxonomy.path(taxonomy[each]) for each in taxonomy.leaf_ids]
    path_through = {node.id: path for path in paths for node in path}
    quiz = named_examples(right)
    leaves = [taxonomy[example.sample.answers[-1].answer] for example in quiz]
    descents = {
        example.sample.sample_id: descent_of(taxonomy, leaf)
        for example, leaf in zip(quiz, leaves, strict=True)
    }
    known = list(descents)[:-1]
    path = write_descents(tmp_path / "labels.parquet", {name: descents[name] for name in known})
    assert has_children(path)
    spec = right.with_spec(formats=["open"], replay=0.0).distill
    with caplog.at_level("INFO"):
        dataset = DistillDataset([right.shard], taxonomy, right.chat, spec, [path])
    assert f"a descent says of {len(known)} of {len(quiz)} named samples" in caplog.text
    compared = 0
    examples = [dataset[index] for index in range(len(dataset))]
    for example, before in zip(examples, quiz, strict=True):
        assert isinstance(example, OpenExample)
        assert example.levels == before.levels
        assert example.transcript == before.transcript
        if example.sample.sample_id not in known:
            assert example.branches == before.branches
            continue
        of_level = {level["level"]: level for level in descents[example.sample.sample_id]}
        for branch in example.branches:
            level = of_level[branch.level + 1]
            masses: dict[int, float] = defaultdict(float)
            for child, probability in zip(level["children"], level["probabilities"], strict=True):
                token_ids = answers.transcript(path_through[child][-1]).token_ids
                if token_ids[: branch.position] == example.transcript.token_ids[: branch.position]:
                    masses[token_ids[branch.position]] += probability
            assert dict(zip(branch.token_ids, branch.masses, strict=True)) == pytest.approx(masses)
            compared += 1
    assert compared > len(known)


def test_a_descent_that_left_the_path_gives_way_to_the_options(
    right: Elicited, tmp_path: Path
) -> None:
    """The children of other nodes say nothing about the path that is named."""
    taxonomy = right.taxonomy
    (before, *_) = named_examples(right)
    leaf = taxonomy[before.sample.answers[-1].answer]
    parent = taxonomy.path(leaf)[-2].id
    other = next(
        taxonomy[each]
        for each in sorted(taxonomy.leaf_ids)
        if parent not in {node.id for node in taxonomy.path(taxonomy[each])}
    )
    descents = {before.sample.sample_id: descent_of(taxonomy, other)}
    path = write_descents(tmp_path / "labels.parquet", descents)
    spec = right.with_spec(formats=["open"], replay=0.0).distill
    example = DistillDataset([right.shard], taxonomy, right.chat, spec, [path])[0]
    assert isinstance(example, OpenExample)
    last = max(branch.level for branch in before.branches)
    first = min(branch.level for branch in before.branches)
    for made, quiz in zip(example.branches, before.branches, strict=True):
        if made.level == last:
            assert made == quiz
        if made.level == first:
            assert made.masses != quiz.masses
