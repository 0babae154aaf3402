"""The training set and its micro-batches: replay, alignment by token ids, shuffled options."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch
from elicited import NUM_SAMPLES, Elicited, elicit

from sekd.data.signals import TeacherShard
from sekd.errors import ConfigError, FatalError
from sekd.stages.distill.dataset import JointExample, ReplayExample


@pytest.mark.parametrize(("replay", "num_replayed"), [(0.0, 0), (0.2, 1), (0.5, 4), (0.75, 12)])
def test_replay_is_a_share_of_the_sequences(
    elicited: Elicited, replay: float, num_replayed: int
) -> None:
    counts = Counter(type(example) for example in elicited.dataset(replay=replay))
    assert (counts[JointExample], counts[ReplayExample]) == (NUM_SAMPLES, num_replayed)


def test_every_kind_is_replayed_equally_often(elicited: Elicited) -> None:
    """Although only one of the four samples has a reply to a plain prompt."""
    (plain,) = TeacherShard(elicited.shard.transcripts, elicited.shard.answers).with_plain_replies()
    counts: Counter[str] = Counter()
    for example in replay_examples(elicited):
        text = elicited.chat.decode(example.transcript.token_ids)
        kind = {0: "plain", 1: "single", 4: "dialogue"}[len(example.transcript.positions)]
        assert (kind == "single") == ("known facts ( None )" in text)
        assert kind != "plain" or example.sample.sample_id == plain
        counts[kind] += 1
    assert counts == {"dialogue": 12, "single": 12, "plain": 12}


def replay_examples(elicited: Elicited) -> list[ReplayExample]:
    dataset = elicited.dataset(replay=0.9)
    return [example for example in dataset if isinstance(example, ReplayExample)]


def test_a_dialogue_is_replayed_in_other_orders_with_the_same_answers(elicited: Elicited) -> None:
    dialogues = [
        example for example in replay_examples(elicited) if len(example.transcript.positions) == 4
    ]
    orders = set()
    for example in dialogues:
        stored, transcript = example.sample.transcripts[0], example.transcript
        assert transcript.is_target == stored.is_target
        for position, answer in zip(transcript.positions, example.sample.answers, strict=True):
            name = answer.answer.rpartition("/")[2]
            letter = elicited.chat.decode([transcript.token_ids[position]])
            answer_text = elicited.chat.decode(transcript.token_ids[position : position + 3])
            assert answer_text == f"{letter} . {name}"
            prompt = elicited.chat.decode(transcript.token_ids[:position])
            assert answer_text in prompt  # it is one of the options
        orders.add(tuple(transcript.token_ids[position] for position in transcript.positions))
    assert len(orders) > NUM_SAMPLES


def test_every_target_is_the_token_after_its_state(elicited: Elicited) -> None:
    examples = list(elicited.dataset(replay=0.5))
    batch = elicited.collate(examples)
    for sequences in (batch.joint, batch.replay):
        assert sequences is not None
        targets, input_ids = sequences.targets, sequences.inputs["input_ids"]
        next_ids_N = input_ids[targets.rows_N, targets.positions_N + 1]
        assert torch.equal(next_ids_N, targets.token_ids_N)
        # Half of the sequences of the batch are of this kind.
        num_with_letters = len(set(targets.rows_N[targets.is_letter_N].tolist()))
        letter_weights_M = targets.weights_N[targets.is_letter_N]
        assert letter_weights_M.sum() == pytest.approx(num_with_letters / 8)
        assert targets.weights_N[~targets.is_letter_N].sum() == pytest.approx(0.5)
        assert targets.text_weights_N.sum() == pytest.approx(0.5)
        for row in range(NUM_SAMPLES):
            assert len(set(targets.text_weights_N[targets.rows_N == row].tolist())) == 1
    assert batch.joint is not None
    assert batch.joint.signals is not None
    targets, signals = batch.joint.targets, batch.joint.signals
    choices = [
        answer.choice
        for example in examples
        if isinstance(example, JointExample)
        for answer in example.sample.answers
    ]
    letters_M = signals.student_letters_ML[torch.arange(len(choices)), choices]
    assert torch.equal(targets.token_ids_N[targets.is_letter_N], letters_M)


def test_letters_have_the_weights_of_their_levels(elicited: Elicited) -> None:
    batch = elicited.collate(list(elicited.dataset(replay=0.0)), (3.0, 0.0))
    assert batch.joint is not None
    targets = batch.joint.targets
    weights = targets.weights_N[targets.is_letter_N].view(NUM_SAMPLES, 4) * NUM_SAMPLES
    torch.testing.assert_close(weights, torch.tensor([[0.6, 0.0, 0.2, 0.2]] * NUM_SAMPLES))


def test_replayed_sequences_ignore_the_weights_of_levels(elicited: Elicited) -> None:
    """A single question has one letter, whose weight is 1 whatever its level."""
    examples = replay_examples(elicited)
    batch = elicited.collate(examples, (0.0, 3.0))
    assert batch.replay is not None
    targets = batch.replay.targets
    for row in range(len(examples)):
        is_letter_N = (targets.rows_N == row) & targets.is_letter_N
        shares = targets.weights_N[is_letter_N] * len(examples)
        torch.testing.assert_close(shares, torch.ones_like(shares) / max(1, len(shares)))


def test_nothing_is_replayed_if_the_replay_term_has_no_weight(elicited: Elicited) -> None:
    """A batch of replayed sequences only would have no loss."""
    dataset = elicited.dataset(replay=0.75, losses={"replay": 0.0})
    assert [type(example) for example in dataset] == [JointExample] * NUM_SAMPLES


def test_options_are_shuffled_again_in_each_epoch(elicited: Elicited) -> None:
    """Each letter still stands for its node: the prompt shows the node's name after its letter."""
    dataset, chat = elicited.dataset(replay=0.0), elicited.chat
    orders = set()
    for epoch in range(4):
        dataset.set_epoch(epoch)
        example = dataset[0]
        assert isinstance(example, JointExample)
        orders.add(example.letter_ids)
        assert example.transcript == dataset[0].transcript  # the same within an epoch
        lines = chat.decode(example.transcript.token_ids).splitlines()
        for answer, ids in zip(example.sample.answers, example.letter_ids, strict=True):
            names = [node.rpartition("/")[2] for node in answer.options]
            for name, token in zip(names, ids, strict=True):
                assert any(f"{chat.decode([token])} . {name}" in line for line in lines)
    assert len(orders) > 1


def test_a_shifted_letter_is_an_error_that_names_the_sample(elicited: Elicited) -> None:
    example = elicited.dataset(replay=0.0)[2]
    first, *rest = example.transcript.positions
    moved = dataclasses.replace(example.transcript, positions=(first - 1, *rest))
    with pytest.raises(
        FatalError, match=rf"sample {example.sample.sample_id}: token \d+ .* letter"
    ):
        elicited.collate([dataclasses.replace(example, transcript=moved)])


def test_letters_of_another_question_are_an_error_that_names_the_sample(elicited: Elicited) -> None:
    example = elicited.dataset(replay=0.0)[1]
    assert isinstance(example, JointExample)
    others = tuple(tuple(token + 100 for token in ids) for ids in example.letter_ids)
    with pytest.raises(FatalError, match=rf"sample {example.sample.sample_id}: .* letter"):
        elicited.collate([dataclasses.replace(example, letter_ids=others)])


def test_an_image_of_another_size_is_an_error_that_names_the_sample(
    elicited: Elicited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of letters is right, but each stands one token further on."""
    from sekd.models.batching import Batch, Batcher

    build = Batcher.__call__

    def shifted(self: Batcher, *args: object, **kwargs: object) -> Batch:
        batch = build(self, *args, **kwargs)  # type: ignore[arg-type]
        return dataclasses.replace(batch, shifts=tuple(shift + 1 for shift in batch.shifts))

    monkeypatch.setattr(Batcher, "__call__", shifted)
    example = elicited.dataset(replay=0.0)[0]
    with pytest.raises(FatalError, match=rf"sample {example.sample.sample_id}: token"):
        elicited.collate([example])


def test_with_labels_truth_the_true_nodes_are_the_targets(elicited: Elicited) -> None:
    off = {"soft": 0.0, "feature": 0.0}
    dataset = elicited.dataset(replay=0.0, labels="truth", losses=off)
    for example in dataset:
        assert isinstance(example, JointExample)
        for answer, position, ids in zip(
            example.sample.answers, example.transcript.positions, example.letter_ids, strict=True
        ):
            truth = answer.options.index(answer.truth or "")
            assert example.transcript.token_ids[position] == ids[truth]


def test_an_unknown_truth_is_an_error_that_names_sample_and_level(elicited: Elicited) -> None:
    off = {"soft": 0.0, "feature": 0.0}
    dataset = elicited.dataset(replay=0.0, labels="truth", losses=off)
    sample = dataset[0].sample
    unlabelled = dataclasses.replace(sample.answers[1], truth=None)
    with pytest.raises(FatalError, match=rf"sample {sample.sample_id}, level 2: .*None"):
        dataset._label(unlabelled)


def test_labels_truth_refuses_the_soft_term(elicited: Elicited) -> None:
    with pytest.raises(ValueError, match="labels: truth: the teacher's distributions"):
        elicited.with_spec(labels="truth")


def test_samples_below_the_minimum_confidence_are_left_out(elicited: Elicited) -> None:
    """The least confident answer of a sample counts, for joint prompts and for replay."""
    samples = {example.sample.sample_id: example.sample for example in elicited.dataset(replay=0.0)}
    lowest = {
        sample_id: min(answer.confidence for answer in sample.answers)
        for sample_id, sample in samples.items()
    }
    first, second = sorted(lowest.values())[:2]
    limit = (first + second) / 2
    remaining = {example.sample.sample_id for example in elicited.dataset(min_confidence=limit)}
    assert remaining == {
        sample_id for sample_id, confidence in lowest.items() if confidence >= second
    }


def test_an_error_is_raised_if_no_sample_is_confident(elicited: Elicited) -> None:
    with pytest.raises(ConfigError, match="min_confidence: 1 leaves no sample"):
        elicited.dataset(min_confidence=1.0)


def test_prompts_of_the_facts_style_are_replayed_one_at_a_time(world: Path, tmp_path: Path) -> None:
    """A dialogue's prompt shows the facts that the teacher knew, a single question shows none."""
    elicited = elicit(world, tmp_path, "elicit.style=facts", "elicit.plain.share=0")
    texts = []
    for example in replay_examples(elicited):
        assert len(example.transcript.positions) == 1
        texts.append(elicited.chat.decode(example.transcript.token_ids))
    assert sum("known facts ( None )" in text for text in texts) == len(texts) / 2
    known_facts = set()
    for example in elicited.dataset(replay=0.0):
        order, family = (answer.answer.rpartition("/")[2] for answer in example.sample.answers[:2])
        known_facts.add(f"order : {order} , family : {family} )")
    assert any(facts in text for facts in known_facts for text in texts)
