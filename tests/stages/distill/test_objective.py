"""The terms against a plain float64 reference over full logits, and where gradients go."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from elicited import Elicited, elicit
from peft import PeftModel
from torch import Tensor

from sekd.config import DistillSpec
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import MicroBatch
from sekd.stages.distill.objective import Objective

LAYERS = ["block_1", "final_norm"]
ALL = {"text": 0.5, "hard": 1.0, "format": 1.0, "soft": 2.0, "feature": 1.0, "replay": 1.0}


def student_of(elicited: Elicited, spec: DistillSpec, scale: float = 0.05) -> PeftModel:
    """With an adapter that changes something, unlike a fresh one."""
    model = add_adapter(loading.load_model(elicited.config.model), spec)
    generator = torch.Generator().manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(0, scale, generator=generator)
    return model.eval()


def kl(of: Tensor, against: Tensor) -> Tensor:
    return (of.exp() * (of - against)).sum()


def reference_terms(model: PeftModel, batch: MicroBatch, spec: DistillSpec) -> dict[str, float]:
    """In float64 from full logits and output_hidden_states, one token at a time."""
    terms = dict.fromkeys(ALL, 0.0)
    head = model.get_base_model().lm_head.weight.double()
    assert batch.joint is not None
    assert batch.joint.signals is not None
    at, signals = batch.joint.learned, batch.joint.signals
    with torch.inference_mode():
        output = model(**batch.joint.inputs, output_hidden_states=True)
    logits, letter, heat = output.logits.double(), 0, spec.temperature
    for n, (row, position) in enumerate(zip(at.rows_N, at.positions_N, strict=True)):
        student = logits[row, position].log_softmax(-1)
        loss = -float(student[at.targets_N[n]])
        terms["hard" if at.is_letter_N[n] else "format"] += float(at.weights_N[n]) * loss
        terms["text"] += float(at.text_weights_N[n]) * loss
        if not at.is_letter_N[n]:
            continue
        weight = float(at.weights_N[n])
        final = signals.states["final_norm"][letter].double()
        # Each option's probability, over all orders, goes to its letter in this prompt.
        teacher = (head @ final).log_softmax(-1)
        teacher[signals.student_letters_ML[letter]] = signals.logprobs_ML[letter].double()
        soft = (teacher / heat).log_softmax(-1)
        mine = (logits[row, position] / heat).log_softmax(-1)
        middle = torch.logaddexp(soft, mine) - math.log(2)
        terms["soft"] += (
            weight
            * heat**2
            * float(
                {
                    "forward": kl(soft, mine),
                    "reverse": kl(mine, soft),
                    "jsd": (kl(soft, middle) + kl(mine, middle)) / 2,
                }[spec.divergence]
            )
        )
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
        is_same_token = at.targets_N[n] == signals.targets_M[letter]
        terms["feature"] += weight * float(block + is_same_token * last) / 2
        letter += 1
    assert batch.replay is not None
    at = batch.replay.learned
    with torch.inference_mode():
        students = model(**batch.replay.inputs).logits.double().log_softmax(-1)
        with model.disable_adapter():
            bases = model(**batch.replay.inputs).logits.double().log_softmax(-1)
    for row, position, share in zip(at.rows_N, at.positions_N, at.weights_N, strict=True):
        terms["replay"] += float(share * kl(bases[row, position], students[row, position]))
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
    lessons = elicited.dataset(replay=0.5)
    batch = elicited.collate(list(lessons), spec.losses.levels)
    objective = Objective(model, elicited.config.model, spec, lessons.layers)
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
        ["data.train.distractors=walk", "elicit.answer=letter"],
    ],
    ids=["facts", "permutations", "float8", "walk"],
)
def test_whatever_the_teacher_was_like(world: Path, tmp_path: Path, overrides: list[str]) -> None:
    elicited = elicit(world, tmp_path, *overrides)
    spec = elicited.with_spec(losses=ALL).distill
    model, lessons = student_of(elicited, spec), elicited.dataset(replay=0.5)
    batch = elicited.collate(list(lessons))
    objective = Objective(model, elicited.config.model, spec, lessons.layers)
    with torch.inference_mode():
        terms = objective(model, batch)
    for name, value in reference_terms(model, batch, spec).items():
        assert terms[name].item() == pytest.approx(value, abs=2e-5, rel=1e-4), name


def test_a_fresh_student_is_the_base(elicited: Elicited) -> None:
    """And at the letters of a dialogue it is the teacher, so what replay measures is zero."""
    spec = elicited.config.distill
    model = add_adapter(loading.load_model(elicited.config.model), spec)
    lessons = elicited.dataset(replay=0.5)
    with torch.inference_mode():
        terms = Objective(model, elicited.config.model, spec, lessons.layers)(
            model, elicited.collate(list(lessons))
        )
    assert abs(terms["replay"].item()) < 1e-6
    assert terms["soft"].item() > 0.1


def test_terms_without_weight_are_not_computed(elicited: Elicited) -> None:
    spec = elicited.with_spec(losses={"soft": 0.0, "feature": 0.0, "replay": 0.0}).distill
    model = student_of(elicited, spec)
    lessons = elicited.dataset(replay=0.5)
    with torch.inference_mode():
        terms = Objective(model, elicited.config.model, spec, lessons.layers)(
            model, elicited.collate(list(lessons))
        )
    assert terms.keys() == {"hard", "format"}


def test_top_k_stands_in_where_no_final_state_is_stored(elicited: Elicited) -> None:
    """50 of 342 entries and a tail: below the exact divergence, and close to it."""
    spec = elicited.with_spec(losses={"feature": 0.0}).distill
    model = student_of(elicited, spec)
    batch = elicited.collate(list(elicited.dataset(replay=0.0)))
    assert batch.joint is not None
    assert batch.joint.signals is not None
    without = dataclasses.replace(
        batch.joint.signals, states={"block_1": batch.joint.signals.states["block_1"]}
    )
    short = dataclasses.replace(batch, joint=dataclasses.replace(batch.joint, signals=without))
    objective = Objective(model, elicited.config.model, spec, ["block_1"])
    with torch.inference_mode():
        exact, bound = (objective(model, each)["soft"].item() for each in (batch, short))
    assert 0.5 * exact < bound <= exact + 1e-4


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_only_the_adapter_gets_a_gradient(elicited: Elicited, kind: str) -> None:
    """Not the vision tower, not the merger, not the base: with every term on."""
    lora = {"rank": 4} | ({kind: True} if kind != "plain" else {})
    spec = elicited.with_spec(losses=ALL, lora=lora).distill
    model = student_of(elicited, spec)
    lessons = elicited.dataset(replay=0.5)
    objective = Objective(model, elicited.config.model, spec, lessons.layers)
    objective.weighted(objective(model, elicited.collate(list(lessons)))).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    adapter = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert with_gradient == adapter
    assert all("text_model.layers" in name for name in adapter)
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.grad is not None)


def test_a_layer_that_is_not_stored_is_named(elicited: Elicited) -> None:
    spec = elicited.with_spec(layers=["block_3"]).distill
    model = student_of(elicited, spec)
    with pytest.raises(ConfigError, match=r"no states of block_3 .*block_1, final_norm"):
        Objective(model, elicited.config.model, spec, LAYERS)


def test_the_middle_is_the_block_half_way_up(elicited: Elicited) -> None:
    """As in ``elicit.layers``, whose names the shards have resolved."""
    model = student_of(elicited, elicited.config.distill)
    spec = elicited.with_spec(layers=["middle"]).distill
    objective = Objective(model, elicited.config.model, spec, ["block_2", "final_norm"])
    assert objective._layers == ["block_2"]
    with pytest.raises(ConfigError, match=r"^distill\.layers: no 'block_9' in .*block_3"):
        Objective(model, elicited.config.model, elicited.with_spec(layers=["block_9"]).distill, [])


def test_a_temperature_wants_the_final_state(elicited: Elicited) -> None:
    spec = elicited.with_spec(temperature=2.0).distill
    model = student_of(elicited, spec)
    Objective(model, elicited.config.model, spec, LAYERS)
    with pytest.raises(ConfigError, match="temperature: 2, but the top k"):
        Objective(model, elicited.config.model, spec, ["block_1"])
