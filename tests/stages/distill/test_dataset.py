"""What is learned and where: shares, alignment by token ids, orders of the options."""

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


@pytest.mark.parametrize(("replay", "replayed"), [(0.0, 0), (0.2, 1), (0.5, 4), (0.75, 12)])
def test_replay_is_a_share_of_the_sequences(
    elicited: Elicited, replay: float, replayed: int
) -> None:
    kinds = Counter(type(lesson) for lesson in elicited.dataset(replay=replay))
    assert (kinds[JointExample], kinds[ReplayExample]) == (NUM_SAMPLES, replayed)


def test_every_skill_is_replayed_as_often_as_any_other(elicited: Elicited) -> None:
    """One of the four samples has a reply to a plain prompt."""
    (plain,) = TeacherShard(elicited.shard.transcripts, elicited.shard.answers).with_plain_replies()
    kinds: Counter[str] = Counter()
    for lesson in replayed(elicited):
        text = elicited.chat.decode(lesson.transcript.token_ids)
        kind = {0: "plain", 1: "single", 4: "dialogue"}[len(lesson.transcript.positions)]
        assert (kind == "single") == ("known facts ( None )" in text)
        assert kind != "plain" or lesson.sample.sample_id == plain
        kinds[kind] += 1
    assert kinds == {"dialogue": 12, "single": 12, "plain": 12}


def replayed(elicited: Elicited) -> list[ReplayExample]:
    lessons = elicited.dataset(replay=0.9)
    return [lesson for lesson in lessons if isinstance(lesson, ReplayExample)]


def test_a_dialogue_is_replayed_in_other_orders_with_the_same_answers(elicited: Elicited) -> None:
    dialogues = [each for each in replayed(elicited) if len(each.transcript.positions) == 4]
    orders = set()
    for lesson in dialogues:
        stored, transcript = lesson.sample.transcripts[0], lesson.transcript
        assert transcript.is_target == stored.is_target
        for position, answer in zip(transcript.positions, lesson.sample.answers, strict=True):
            name = answer.answer.rpartition("/")[2]
            said = elicited.chat.decode(transcript.token_ids[position : position + 3])
            assert said == f"{elicited.chat.decode([transcript.token_ids[position]])} . {name}"
            assert said in elicited.chat.decode(transcript.token_ids[:position])  # as an option
        orders.add(tuple(transcript.token_ids[position] for position in transcript.positions))
    assert len(orders) > NUM_SAMPLES


def test_every_target_is_the_token_behind_its_state(elicited: Elicited) -> None:
    lessons = list(elicited.dataset(replay=0.5))
    batch = elicited.collate(lessons)
    for part in (batch.joint, batch.replay):
        assert part is not None
        at, ids = part.learned, part.inputs["input_ids"]
        assert torch.equal(ids[at.rows_N, at.positions_N + 1], at.targets_N)
        # Half of the sequences of the batch are in this part.
        has_letters = len(set(at.rows_N[at.is_letter_N].tolist()))
        assert at.weights_N[at.is_letter_N].sum() == pytest.approx(has_letters / 8)
        assert at.weights_N[~at.is_letter_N].sum() == pytest.approx(0.5)
        assert at.text_weights_N.sum() == pytest.approx(0.5)
        for row in range(NUM_SAMPLES):
            assert len(set(at.text_weights_N[at.rows_N == row].tolist())) == 1
    assert batch.joint is not None
    assert batch.joint.signals is not None
    at, signals = batch.joint.learned, batch.joint.signals
    chosen = [
        answer.choice
        for lesson in lessons
        if isinstance(lesson, JointExample)
        for answer in lesson.sample.answers
    ]
    letters = signals.student_letters_ML[torch.arange(len(chosen)), chosen]
    assert torch.equal(at.targets_N[at.is_letter_N], letters)


def test_levels_weigh_as_asked(elicited: Elicited) -> None:
    lessons = list(elicited.dataset(replay=0.0))
    batch = elicited.collate(lessons, (3.0, 0.0))
    assert batch.joint is not None
    at = batch.joint.learned
    weights = at.weights_N[at.is_letter_N].view(NUM_SAMPLES, 4) * NUM_SAMPLES
    torch.testing.assert_close(weights, torch.tensor([[0.6, 0.0, 0.2, 0.2]] * NUM_SAMPLES))


def test_levels_do_not_weigh_on_what_is_replayed(elicited: Elicited) -> None:
    """A question by itself has one letter, whatever its level, and a mean of its own."""
    lessons = [each for each in elicited.dataset(replay=0.9) if isinstance(each, ReplayExample)]
    batch = elicited.collate(lessons, (0.0, 3.0))
    assert batch.replay is not None
    at = batch.replay.learned
    for row in range(len(lessons)):
        shares = at.weights_N[(at.rows_N == row) & at.is_letter_N] * len(lessons)
        torch.testing.assert_close(shares, torch.ones_like(shares) / max(1, len(shares)))


def test_nothing_is_replayed_for_a_term_without_weight(elicited: Elicited) -> None:
    """A batch of such sequences alone would have no loss at all."""
    lessons = elicited.dataset(replay=0.75, losses={"replay": 0.0})
    assert [type(lesson) for lesson in lessons] == [JointExample] * NUM_SAMPLES


def test_options_are_shuffled_anew_in_each_epoch(elicited: Elicited) -> None:
    """And a letter keeps meaning its node: the prompt shows the node's name behind its letter."""
    lessons, chat = elicited.dataset(replay=0.0), elicited.chat
    seen = set()
    for epoch in range(4):
        lessons.set_epoch(epoch)
        lesson = lessons[0]
        assert isinstance(lesson, JointExample)
        seen.add(lesson.letter_ids)
        assert lesson.transcript == lessons[0].transcript  # the same within an epoch
        lines = chat.decode(lesson.transcript.token_ids).splitlines()
        for answer, ids in zip(lesson.sample.answers, lesson.letter_ids, strict=True):
            names = [node.rpartition("/")[2] for node in answer.options]
            for name, token in zip(names, ids, strict=True):
                assert any(f"{chat.decode([token])} . {name}" in line for line in lines)
    assert len(seen) > 1


def test_a_shifted_letter_fails_with_its_sample(elicited: Elicited) -> None:
    lesson = elicited.dataset(replay=0.0)[2]
    first, *rest = lesson.transcript.positions
    moved = dataclasses.replace(lesson.transcript, positions=(first - 1, *rest))
    with pytest.raises(FatalError, match=rf"sample {lesson.sample.sample_id}: token \d+ .* letter"):
        elicited.collate([dataclasses.replace(lesson, transcript=moved)])


def test_letters_of_another_question_fail_with_their_sample(elicited: Elicited) -> None:
    lesson = elicited.dataset(replay=0.0)[1]
    assert isinstance(lesson, JointExample)
    others = tuple(tuple(token + 100 for token in ids) for ids in lesson.letter_ids)
    with pytest.raises(FatalError, match=rf"sample {lesson.sample.sample_id}: .* letter"):
        elicited.collate([dataclasses.replace(lesson, letter_ids=others)])


def test_an_image_that_takes_other_room_fails_with_its_sample(
    elicited: Elicited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never by counts: as many letters as expected, one token further on."""
    from sekd.models.batching import Batch, Batcher

    build = Batcher.__call__

    def shifted(self: Batcher, *args: object, **kwargs: object) -> Batch:
        batch = build(self, *args, **kwargs)  # type: ignore[arg-type]
        return dataclasses.replace(batch, shifts=tuple(shift + 1 for shift in batch.shifts))

    monkeypatch.setattr(Batcher, "__call__", shifted)
    lesson = elicited.dataset(replay=0.0)[0]
    with pytest.raises(FatalError, match=rf"sample {lesson.sample.sample_id}: token"):
        elicited.collate([lesson])


def test_the_truth_can_be_learned_instead(elicited: Elicited) -> None:
    off = {"soft": 0.0, "feature": 0.0}
    lessons = elicited.dataset(replay=0.0, labels="truth", losses=off)
    for lesson in lessons:
        assert isinstance(lesson, JointExample)
        for answer, position, ids in zip(
            lesson.sample.answers, lesson.transcript.positions, lesson.letter_ids, strict=True
        ):
            truth = answer.options.index(answer.truth or "")
            assert lesson.transcript.token_ids[position] == ids[truth]


def test_an_unknown_truth_is_named(elicited: Elicited) -> None:
    off = {"soft": 0.0, "feature": 0.0}
    lessons = elicited.dataset(replay=0.0, labels="truth", losses=off)
    sample = lessons[0].sample
    unlabelled = dataclasses.replace(sample.answers[1], truth=None)
    with pytest.raises(FatalError, match=rf"sample {sample.sample_id}, level 2: .*None"):
        lessons._label(unlabelled)


def test_truth_takes_no_soft_term(elicited: Elicited) -> None:
    with pytest.raises(ValueError, match="labels: truth: the teacher's distributions"):
        elicited.with_spec(labels="truth")


def test_samples_of_a_doubtful_teacher_are_left_out(elicited: Elicited) -> None:
    """By the least confident of a sample's answers, for joint prompts and for replay."""
    samples = {lesson.sample.sample_id: lesson.sample for lesson in elicited.dataset(replay=0.0)}
    lowest = {
        sample_id: min(answer.confidence for answer in sample.answers)
        for sample_id, sample in samples.items()
    }
    second = sorted(lowest.values())[1]
    limit = (sorted(lowest.values())[0] + second) / 2
    left = {lesson.sample.sample_id for lesson in elicited.dataset(min_confidence=limit)}
    assert left == {sample_id for sample_id, least in lowest.items() if least >= second}


def test_no_confident_sample_is_an_error(elicited: Elicited) -> None:
    with pytest.raises(ConfigError, match="min_confidence: 1 leaves no sample"):
        elicited.dataset(min_confidence=1.0)


def test_prompts_of_the_facts_style_are_replayed_one_by_one(world: Path, tmp_path: Path) -> None:
    """With the facts that the teacher knew, or, as a question by itself, with none."""
    elicited = elicit(world, tmp_path, "elicit.style=facts", "elicit.plain.share=0")
    texts = []
    for lesson in replayed(elicited):
        assert len(lesson.transcript.positions) == 1
        texts.append(elicited.chat.decode(lesson.transcript.token_ids))
    assert sum("known facts ( None )" in text for text in texts) == len(texts) / 2
    known = {
        f"order : {order} , family : {family} )"
        for sample in (lesson.sample for lesson in elicited.dataset(replay=0.0))
        for order, family in [[each.answer.rpartition("/")[2] for each in sample.answers[:2]]]
    }
    assert any(fact in text for fact in known for text in texts)
