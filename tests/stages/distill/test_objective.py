"""The terms equal a plain float64 reference over full logits; gradients reach the adapter only."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from elicited import Elicited, elicit, student_of
from peft import PeftModel
from torch import Tensor

from sekd.config import DistillSpec, LossWeights
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import MicroBatch
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.terms import TERMS

LAYERS = ["block_1", "final_norm"]
ALL = {"text": 0.5, "hard": 1.0, "format": 1.0, "soft": 2.0, "feature": 1.0, "replay": 1.0}


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum()


def reference_terms(model: PeftModel, batch: MicroBatch, spec: DistillSpec) -> dict[str, float]:
    """Compute the terms in float64 from full logits and hidden states, one token at a time."""
    terms = dict.fromkeys(ALL, 0.0)
    head = model.get_base_model().lm_head.weight.double()
    assert batch.joint is not None
    assert batch.joint.signals is not None
    targets, signals = batch.joint.targets, batch.joint.signals
    with torch.inference_mode():
        output = model(**batch.joint.inputs, output_hidden_states=True)
    logits, letter, temperature = output.logits.double(), 0, spec.temperature
    for n, (row, position) in enumerate(zip(targets.rows_N, targets.positions_N, strict=True)):
        student = logits[row, position].log_softmax(-1)
        loss = -float(student[targets.token_ids_N[n]])
        weight = float(targets.weights_N[n])
        terms["hard" if targets.is_letter_N[n] else "format"] += weight * loss
        terms["text"] += float(targets.text_weights_N[n]) * loss
        if not targets.is_letter_N[n]:
            continue
        final = signals.states["final_norm"][letter].double()
        # Each option's probability, over all orders, goes to its letter in this prompt.
        teacher = (head @ final).log_softmax(-1)
        teacher[signals.student_letters_ML[letter]] = signals.logprobs_ML[letter].double()
        teacher = (teacher / temperature).log_softmax(-1)
        student = (logits[row, position] / temperature).log_softmax(-1)
        middle = torch.logaddexp(teacher, student) - math.log(2)
        divergences = {
            "forward": kl(teacher, student),
            "reverse": kl(student, teacher),
            "jsd": (kl(teacher, middle) + kl(student, middle)) / 2,
        }
        terms["soft"] += weight * temperature**2 * float(divergences[spec.divergence])
        pairs = [
            (output.hidden_states[2][row, position], signals.states["block_1"][letter]),
            (output.hidden_states[-1][row, position], signals.states["final_norm"][letter]),
        ]
        block, last = (
            1 - torch.cosine_similarity(a.double(), b.double(), dim=0)
            if spec.distance == "cosine"
            else (a.double() - b.double()).norm() ** 2 / b.double().norm() ** 2
            for a, b in pairs
        )
        is_same_token = targets.token_ids_N[n] == signals.chosen_letters_M[letter]
        terms["feature"] += weight * float(block + is_same_token * last) / 2
        letter += 1
    assert batch.replay is not None
    targets = batch.replay.targets
    with torch.inference_mode():
        students = model(**batch.replay.inputs).logits.double().log_softmax(-1)
        with model.disable_adapter():
            bases = model(**batch.replay.inputs).logits.double().log_softmax(-1)
    for row, position, weight_N in zip(
        targets.rows_N, targets.positions_N, targets.weights_N, strict=True
    ):
        terms["replay"] += float(weight_N * kl(bases[row, position], students[row, position]))
    return terms


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"divergence": "reverse", "distance": "mse"},
        {"divergence": "jsd", "temperature": 2.0},
        {"losses": ALL | {"levels": [2.0, 1.0, 0.5]}},
    ],
    ids=["default", "reverse", "jsd", "levels"],
)
def test_terms_equal_those_of_full_logits(elicited: Elicited, settings: dict[str, object]) -> None:
    spec = elicited.with_spec(**{"losses": ALL} | settings | {"replay": 0.5}).distill
    model = student_of(elicited, spec)
    dataset = elicited.dataset(replay=0.5)
    batch = elicited.collate(list(dataset), spec.losses.levels)
    objective = Objective(model, elicited.config.model, spec, dataset.layers)
    with torch.inference_mode():
        terms = objective(model, batch)
    expected = reference_terms(model, batch, spec)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=2e-5, rel=1e-4), name
        assert value > 1e-3
    total = sum(getattr(spec.losses, name) * value for name, value in expected.items())
    assert objective.weighted(terms).item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        ["elicit.style=facts"],  # a transcript for each level
        ["elicit.permutations=3"],
        ["elicit.state_dtype=float8"],
        ["elicit.answer=letter"],
    ],
    ids=["facts", "permutations", "float8", "letter"],
)
def test_terms_equal_the_reference_for_every_kind_of_teacher(
    world: Path, tmp_path: Path, overrides: list[str]
) -> None:
    elicited = elicit(world, tmp_path, *overrides)
    spec = elicited.with_spec(losses=ALL).distill
    model, dataset = student_of(elicited, spec), elicited.dataset(replay=0.5)
    batch = elicited.collate(list(dataset))
    objective = Objective(model, elicited.config.model, spec, dataset.layers)
    with torch.inference_mode():
        terms = objective(model, batch)
    for name, value in reference_terms(model, batch, spec).items():
        assert terms[name].item() == pytest.approx(value, abs=2e-5, rel=1e-4), name


def test_every_weight_has_a_term() -> None:
    weights = [name for name in LossWeights.model_fields if name != "levels"]
    assert sorted(weights) == sorted(term.name for term in TERMS)


def test_a_fresh_student_equals_the_base(elicited: Elicited) -> None:
    """The replay term is then zero, and the soft term of the joint prompt is not."""
    spec = elicited.config.distill
    model = add_adapter(loading.load_model(elicited.config.model), spec)
    dataset = elicited.dataset(replay=0.5)
    with torch.inference_mode():
        terms = Objective(model, elicited.config.model, spec, dataset.layers)(
            model, elicited.collate(list(dataset))
        )
    assert abs(terms["replay"].item()) < 1e-6
    assert terms["soft"].item() > 0.1


def test_terms_without_weight_are_not_computed(elicited: Elicited) -> None:
    spec = elicited.with_spec(losses={"soft": 0.0, "feature": 0.0, "replay": 0.0}).distill
    model = student_of(elicited, spec)
    dataset = elicited.dataset(replay=0.5)
    with torch.inference_mode():
        terms = Objective(model, elicited.config.model, spec, dataset.layers)(
            model, elicited.collate(list(dataset))
        )
    assert terms.keys() == {"hard", "format"}


def test_the_soft_term_uses_the_top_k_if_no_final_state_is_stored(elicited: Elicited) -> None:
    """With 50 of 342 tokens and a tail it is a lower bound, close to the exact divergence."""
    spec = elicited.with_spec(losses={"feature": 0.0}).distill
    model = student_of(elicited, spec)
    batch = elicited.collate(list(elicited.dataset(replay=0.0)))
    assert batch.joint is not None
    assert batch.joint.signals is not None
    without_final = dataclasses.replace(
        batch.joint.signals, states={"block_1": batch.joint.signals.states["block_1"]}
    )
    top_k_joint = dataclasses.replace(batch.joint, signals=without_final)
    top_k_batch = dataclasses.replace(batch, joint=top_k_joint)
    objective = Objective(model, elicited.config.model, spec, ["block_1"])
    with torch.inference_mode():
        exact = objective(model, batch)["soft"].item()
        bound = objective(model, top_k_batch)["soft"].item()
    assert 0.5 * exact < bound <= exact + 1e-4


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_only_the_adapter_gets_a_gradient(elicited: Elicited, kind: str) -> None:
    """With all terms on, the vision tower, the merger and the base get none."""
    lora = {"rank": 4} | ({kind: True} if kind != "plain" else {})
    spec = elicited.with_spec(losses=ALL, lora=lora).distill
    model = student_of(elicited, spec)
    dataset = elicited.dataset(replay=0.5)
    objective = Objective(model, elicited.config.model, spec, dataset.layers)
    objective.weighted(objective(model, elicited.collate(list(dataset)))).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    adapter = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert with_gradient == adapter
    assert all("text_model.layers" in name for name in adapter)
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.grad is not None)


def test_a_layer_that_is_not_stored_is_an_error(elicited: Elicited) -> None:
    spec = elicited.with_spec(layers=["block_3"]).distill
    model = student_of(elicited, spec)
    with pytest.raises(ConfigError, match=r"no states of block_3 .*block_1, final_norm"):
        Objective(model, elicited.config.model, spec, LAYERS)


def test_middle_is_the_block_half_way_up(elicited: Elicited) -> None:
    """It is the block that ``elicit.layers`` resolved the name to."""
    model = student_of(elicited, elicited.config.distill)
    spec = elicited.with_spec(layers=["middle"]).distill
    objective = Objective(model, elicited.config.model, spec, ["block_2", "final_norm"])
    assert objective._layers == ["block_2"]
    with pytest.raises(ConfigError, match=r"^distill\.layers: no 'block_9' in .*block_3"):
        Objective(model, elicited.config.model, elicited.with_spec(layers=["block_9"]).distill, [])


def test_a_temperature_other_than_1_needs_the_final_states(elicited: Elicited) -> None:
    spec = elicited.with_spec(temperature=2.0).distill
    model = student_of(elicited, spec)
    Objective(model, elicited.config.model, spec, LAYERS)
    with pytest.raises(ConfigError, match="temperature: 2, but the top k"):
        Objective(model, elicited.config.model, spec, ["block_1"])
