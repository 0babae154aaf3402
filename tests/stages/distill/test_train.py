"""What is learned and where: alignment, terms against a plain reference, gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sekd.config import DistillSpec, LoraSpec, LossWeights, RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.errors import ConfigError, FatalError
from sekd.stages import models
from sekd.stages.batches import Batcher
from sekd.stages.chat import Chat
from sekd.stages.distill import train as train_module
from sekd.stages.distill.dataset import Collator, Lesson, Lessons, ShardFiles, _check_letters
from sekd.stages.distill.train import Objective, add_adapter
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker

NUM_SAMPLES = 4


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, ShardFiles]:
    """One shard of teacher signals with float32 states."""
    from sekd.config import load_config

    overrides = [
        "elicit.state_dtype=float32",
        "elicit.layers=[block_1, final_norm]",
        "elicit.top_k=50",
    ]
    config = load_config(world / "config.yaml", overrides)
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(sample.id for sample in dataset.samples[:NUM_SAMPLES]))
    folder = tmp_path_factory.mktemp("signals")
    answers = AnswersWorker(config, dataset).process(shard, folder, lambda _: None).files
    pair = (answers[signals.TRANSCRIPTS], answers[signals.ANSWERS])
    states = StatesWorker(config, {0: pair}).process(shard, folder, lambda _: None).files
    return config, ShardFiles(*pair, states[signals.STATES], states[signals.STATE_ROWS])


def chat_of(config: RunConfig) -> Chat:
    return Chat(models.load_processor(config.model), subject="organism")


def lessons_of(run: tuple[RunConfig, ShardFiles], replay: float) -> Lessons:
    config, shard = run
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    return Lessons([shard], taxonomy, chat_of(config), replay=replay, seed=0)


def collate(run: tuple[RunConfig, ShardFiles], lessons: Sequence[Lesson]) -> dict[str, object]:
    return Collator(Batcher(chat_of(run[0]), with_token_types=False))(lessons)


@pytest.mark.parametrize(("replay", "joint", "replayed"), [(0.0, 4, 0), (0.5, 4, 4), (1.0, 0, 4)])
def test_replay_is_a_share_of_the_sequences(
    run: tuple[RunConfig, ShardFiles], replay: float, joint: int, replayed: int
) -> None:
    lessons = lessons_of(run, replay)
    dialogues = [
        lesson.transcript.token_ids == lesson.sample.transcripts[0].token_ids for lesson in lessons
    ]
    assert (dialogues.count(False), dialogues.count(True)) == (joint, replayed)


@pytest.mark.parametrize("replay", [0.0, 1.0])
def test_every_target_is_the_token_behind_its_state(
    run: tuple[RunConfig, ShardFiles], replay: float
) -> None:
    lessons = list(lessons_of(run, replay))
    batch = collate(run, lessons)
    at, ids = batch["supervision"], batch["inputs"]["input_ids"]
    assert torch.equal(ids[at.rows_N, at.positions_N + 1], at.targets_N)
    letters = at.targets_N[at.is_letter_N]
    chosen = [a.choice for lesson in lessons for a in lesson.sample.answers]
    assert torch.equal(letters, at.student_letters_ML[torch.arange(len(chosen)), chosen])
    assert at.weights_N[at.is_letter_N].sum() == pytest.approx(1)
    assert at.weights_N[~at.is_letter_N].sum() == pytest.approx(1)


def test_options_are_shuffled_anew_in_each_epoch(run: tuple[RunConfig, ShardFiles]) -> None:
    """And a letter keeps meaning its node: the prompt shows the node's name behind its letter."""
    lessons, chat = lessons_of(run, 0.0), chat_of(run[0])
    seen = set()
    for epoch in range(4):
        lessons.set_epoch(epoch)
        lesson = lessons[0]
        seen.add(lesson.letter_ids)
        assert lesson.transcript == lessons[0].transcript  # the same within an epoch
        lines = chat.decode(lesson.transcript.token_ids).splitlines()
        for answer, ids in zip(lesson.sample.answers, lesson.letter_ids, strict=True):
            names = [node.rpartition("/")[2] for node in answer.options]
            for name, token in zip(names, ids, strict=True):
                assert any(f"{chat.decode([token])} . {name}" in line for line in lines)
    assert len(seen) > 1


def test_a_shifted_letter_fails_with_its_sample(run: tuple[RunConfig, ShardFiles]) -> None:
    lesson = lessons_of(run, 0.0)[2]
    first, *rest = lesson.transcript.positions
    moved = dataclasses.replace(lesson.transcript, positions=(first - 1, *rest))
    with pytest.raises(FatalError, match=rf"sample {lesson.sample.sample_id}, level 1"):
        _check_letters(lesson.sample, lesson.answers, moved, lesson.letter_ids)


def reference_terms(model: torch.nn.Module, batch: dict[str, object]) -> dict[str, float]:
    """The terms in float64 from full logits and output_hidden_states, one token at a time."""
    at = batch["supervision"]
    with torch.inference_mode():
        output = model(**batch["inputs"], output_hidden_states=True)
    logprobs = output.logits.double().log_softmax(-1)
    terms = dict.fromkeys(("hard", "format", "soft", "feature"), 0.0)
    letter = 0
    for n, (row, position) in enumerate(zip(at.rows_N, at.positions_N, strict=True)):
        weight, student = at.weights_N[n].double(), logprobs[row, position]
        kind = "hard" if at.is_letter_N[n] else "format"
        terms[kind] -= float(weight * student[at.targets_N[n]])
        if at.is_letter_N[n]:
            final = at.states["final_norm"][letter].double()
            shown = (model.lm_head.weight.double() @ final).log_softmax(-1)
            teacher = shown.clone()  # each option's probability moves to its letter in this prompt
            teacher[at.student_letters_ML[letter]] = shown[at.teacher_letters_ML[letter]]
            terms["soft"] += float((weight * (teacher.exp() * (teacher - student)).sum()).detach())
            pairs = [
                (output.hidden_states[2][row, position], at.states["block_1"][letter]),
                (output.hidden_states[-1][row, position], at.states["final_norm"][letter]),
            ]
            block, last = (
                1 - torch.cosine_similarity(a.double(), b.double(), dim=0) for a, b in pairs
            )
            is_same_token = at.targets_N[n] == at.teacher_targets_M[letter]
            terms["feature"] += float(weight * (block + is_same_token * last) / 2)
            letter += 1
    return terms


@pytest.mark.parametrize("replay", [0.0, 1.0])
def test_terms_equal_those_of_full_logits(run: tuple[RunConfig, ShardFiles], replay: float) -> None:
    config, _ = run
    model = models.load_model(config.model)
    batch = collate(run, list(lessons_of(run, replay)))
    objective = Objective(model, config.model, ["block_1", "final_norm"], temperature=1.0)
    with torch.inference_mode():
        terms = objective(model, batch["inputs"], batch["supervision"])
    expected = reference_terms(model, batch)
    for name, value in expected.items():
        assert getattr(terms, name).item() == pytest.approx(value, abs=2e-5), name
    if replay:  # the base replaying its own dialogue already is the teacher
        assert abs(terms.soft.item()) < 1e-5
        assert abs(terms.feature.item()) < 1e-5


def test_top_k_stands_in_where_no_final_state_is_stored(run: tuple[RunConfig, ShardFiles]) -> None:
    """50 of 342 entries and a tail: below the exact divergence, and close to it."""
    config, _ = run
    model = models.load_model(config.model)
    batch = collate(run, list(lessons_of(run, 0.0)))
    at = batch["supervision"]
    without = dataclasses.replace(at, states={"block_1": at.states["block_1"]})
    with torch.inference_mode():
        exact = Objective(model, config.model, ["block_1"], 1.0)(
            model, batch["inputs"], at
        ).soft.item()
        short = Objective(model, config.model, ["block_1"], 1.0)(
            model, batch["inputs"], without
        ).soft.item()
    assert 0.5 * exact < short <= exact + 1e-4


def test_only_the_adapter_gets_a_gradient(run: tuple[RunConfig, ShardFiles]) -> None:
    config, _ = run
    base = models.load_model(config.model)
    objective = Objective(base, config.model, ["block_1", "final_norm"], 1.0)
    model = add_adapter(base, DistillSpec(lora=LoraSpec(rank=2, dropout=0.0)))
    batch = collate(run, list(lessons_of(run, 0.0)))
    loss = objective(model, batch["inputs"], batch["supervision"]).weighted(LossWeights())
    loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all("lora_" in name and "text_model.layers" in name for name in with_gradient)


def test_an_unknown_target_module_is_named(run: tuple[RunConfig, ShardFiles]) -> None:
    base = models.load_model(run[0].model)
    spec = DistillSpec(lora=LoraSpec(target_modules=("q_proj", "fc1")))  # fc1 is the vision tower's
    with pytest.raises(ConfigError, match=r"no linear layer fc1 below .*; there are down_proj"):
        add_adapter(base, spec)


def test_a_loss_that_is_not_finite_stops_with_the_samples(
    run: tuple[RunConfig, ShardFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, shard = run
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    sample_id = lessons_of(run, 0.0)[0].sample.sample_id

    def broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits[:, 0] * float("nan")

    monkeypatch.setattr(train_module, "hard_loss", broken)
    with pytest.raises(FatalError, match=rf"the loss is nan at step 0: .*{sample_id}"):
        train_module.train(config, taxonomy, [shard], tmp_path)


def test_a_global_batch_that_does_not_divide_is_refused(
    run: tuple[RunConfig, ShardFiles], tmp_path: Path
) -> None:
    config, shard = run
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    spec = config.distill.model_copy(update={"global_batch": 50})
    with pytest.raises(ConfigError, match="50 is no multiple of 8"):
        train_module.train(config.model_copy(update={"distill": spec}), taxonomy, [shard], tmp_path)


def test_activation_checkpointing_changes_nothing(
    run: tuple[RunConfig, ShardFiles], tmp_path: Path
) -> None:
    config, shard = run
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    adapters = []
    for is_on in (False, True):
        runtime = config.distill.runtime.model_copy(
            update={"batch_size": 2, "gradient_checkpointing": is_on}
        )
        spec = config.distill.model_copy(
            update={"global_batch": 4, "epochs": 2.0, "warmup": 0.0, "runtime": runtime}
        )
        adapter = train_module.train(
            config.model_copy(update={"distill": spec}), taxonomy, [shard], tmp_path / f"{is_on}"
        )
        adapters.append(load_file(adapter / "adapter_model.safetensors"))
    plain, checkpointed = adapters
    assert plain.keys() == checkpointed.keys()
    assert any(tensor.abs().max() > 0 for name, tensor in plain.items() if "lora_B" in name)
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, rtol=1e-4, atol=1e-6)
