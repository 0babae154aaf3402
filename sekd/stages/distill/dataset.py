"""What to learn from the teacher's shards: the joint prompt, and what is not to be forgotten."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sekd.config import DistillSpec
from sekd.data.questions import Question
from sekd.data.signals import StateRow, TeacherAnswer, TeacherSample, TeacherShard, read_state_rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, FatalError
from sekd.models.chat import Chat, Transcript
from sekd.models.states import StateFile

logger = logging.getLogger(__name__)

# Shapes: D hidden size.


@dataclass(frozen=True)
class ShardFiles:
    """The four files of one shard."""

    transcripts: Path
    answers: Path
    states: Path
    state_rows: Path


@dataclass(frozen=True)
class JointExample:
    """The joint prompt of one sample, answered, with the teacher's signals at its letters.

    Attributes:
        letter_ids: per answer, the token of each option's letter in this transcript, options in
            the order that the teacher saw.
        rows: per answer, what the state pass saw.
        states: layer name -> teacher states [answers, D].
    """

    sample: TeacherSample
    transcript: Transcript
    letter_ids: tuple[tuple[int, ...], ...]
    rows: tuple[StateRow, ...]
    states: dict[str, Tensor]


@dataclass(frozen=True)
class ReplayExample:
    """A sequence where the student is to stay with the base."""

    sample: TeacherSample
    transcript: Transcript


Example = JointExample | ReplayExample
ReplayKind = Literal["dialogue", "single", "plain"]
"""What is replayed: a transcript of the teacher's, one of its questions asked by itself, or its
reply to a plain prompt."""
SampleIndex = tuple[int, int]
"""Number of a shard and of a sample in it."""


class DistillDataset(Dataset[Example]):
    """Every sample's joint prompt, and so many replayed sequences that they are the share asked.

    There are none where the replay term has no weight: nothing would be learned from them.

    Args:
        seed: of the choice of samples to replay and of the order of options.

    Raises:
        ConfigError: if the teacher is not confident of any sample.
    """

    def __init__(
        self, shards: Sequence[ShardFiles], taxonomy: Taxonomy, chat: Chat, spec: DistillSpec
    ) -> None:
        self._taxonomy = taxonomy
        self._chat = chat
        self._uses_truth = spec.labels == "truth"
        self._seed, self.epoch = spec.seed, 0
        self._samples = [TeacherShard(shard.transcripts, shard.answers) for shard in shards]
        self._rows = [read_state_rows(shard.state_rows) for shard in shards]
        self._states = [StateFile(shard.states) for shard in shards]
        places = self._usable(spec.min_confidence)
        share = spec.replay if spec.losses.replay else 0.0
        num_replayed = round(len(places) * share / (1 - share))
        self._items: list[tuple[SampleIndex, ReplayKind | None]] = [
            (place, None) for place in places
        ]
        self._items += self._chosen(places, num_replayed)

    def _chosen(
        self, places: Sequence[SampleIndex], num_replayed: int
    ) -> list[tuple[SampleIndex, ReplayKind]]:
        """What to replay: every skill as often as any other."""
        with_plain = [shard.with_plain_replies() for shard in self._samples]
        plain = [
            (number, place)
            for number, place in places
            if self._samples[number].sample_ids[place] in with_plain[number]
        ]
        places_of: dict[ReplayKind, Sequence[SampleIndex]] = {"dialogue": places, "single": places}
        if plain:
            places_of["plain"] = plain
        skills, rng = list(places_of), random.Random(self._seed)
        chosen = [skills[index % len(skills)] for index in range(num_replayed)]
        return [(rng.choice(places_of[skill]), skill) for skill in chosen]

    def _usable(self, min_confidence: float) -> list[SampleIndex]:
        """Shard and place of the samples that have states and a confident teacher."""
        places, best = [], 0.0
        for number, (shard, rows) in enumerate(zip(self._samples, self._rows, strict=True)):
            with_states = {sample_id for sample_id, _ in rows}
            lowest = shard.lowest_confidence()
            best = max([best, *lowest.values()])
            places += [
                (number, place)
                for place, sample_id in enumerate(shard.sample_ids)
                if sample_id in with_states and lowest[sample_id] >= min_confidence
            ]
        if not places:
            raise ConfigError(
                f"distill.min_confidence: {min_confidence:g} leaves no sample; the best has "
                f"{best:.3g} at its least confident level"
            )
        if min_confidence:
            num_samples = sum(len(shard) for shard in self._samples)
            logger.info("the teacher is confident of %d of %d samples", len(places), num_samples)
        return places

    @property
    def layers(self) -> list[str]:
        """Names of the stored layers."""
        return self._states[0].layers

    @property
    def lengths(self) -> list[int]:
        """Of each item, about how many tokens it is long, images expanded."""
        by_shard = [shard.num_prompt_tokens() for shard in self._samples]
        return [by_shard[shard][place] for (shard, place), _ in self._items]

    @property
    def are_replayed(self) -> list[bool]:
        """Of each item, whether it keeps a skill of the base."""
        return [skill is not None for _, skill in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Example:
        (shard, place), skill = self._items[index]
        sample = self._samples[shard][place]
        rng = random.Random(f"{self._seed}:{self.epoch}:{index}")
        if skill is not None:
            return ReplayExample(sample, self._replayed(sample, skill, rng))
        answers = sample.answers
        rows = tuple(self._rows[shard][sample.sample_id, answer.level] for answer in answers)
        file = self._states[shard]
        states = {
            layer: torch.stack([file.row(layer, row.row) for row in rows]) for layer in file.layers
        }
        transcript, letter_ids = self._joint(sample, rng)
        return JointExample(sample, transcript, letter_ids, rows, states)

    def set_epoch(self, epoch: int) -> None:
        """Options are shown in another order in each epoch."""
        self.epoch = epoch

    def _joint(
        self, sample: TeacherSample, rng: random.Random
    ) -> tuple[Transcript, tuple[tuple[int, ...], ...]]:
        """The joint prompt with its options shuffled, and letters in the *teacher's* option order.

        With options in one order for good, a student learns by heart which letters belong to an
        image, and fails on the next one.
        """
        questions, choices, letter_ids = [], [], []
        for answer in sample.answers:
            question, order = self._shuffled(answer, rng)
            questions.append(question)
            choices.append(order.index(self._label(answer)))
            letters = self._chat.joint_letter_ids(question)
            letter_ids.append(tuple(letters[order.index(old)] for old in range(len(order))))
        transcript = self._chat.joint_transcript(questions, choices, self._taxonomy.root)
        return transcript, tuple(letter_ids)

    def _label(self, answer: TeacherAnswer) -> int:
        """Index of the option to learn, among those that the teacher saw.

        Raises:
            FatalError: naming the sample and level, if its truth is to be learned and unknown.
        """
        if not self._uses_truth:
            return answer.choice
        if answer.truth not in answer.options:
            raise FatalError(
                f"sample {answer.sample_id}, level {answer.level}: distill.labels: truth, but its "
                f"true node is {answer.truth!r} and no option"
            )
        return answer.options.index(answer.truth)

    def _replayed(self, sample: TeacherSample, skill: ReplayKind, rng: random.Random) -> Transcript:
        if skill == "dialogue":
            return self._dialogue(sample, rng)
        if skill == "single":
            return self._single(rng.choice(sample.answers), [], rng)
        with_answers = {answer.transcript for answer in sample.answers}
        plain = [each for n, each in enumerate(sample.transcripts) if n not in with_answers]
        transcript = rng.choice(plain)
        return Transcript(transcript.token_ids, (), transcript.is_target)

    def _dialogue(self, sample: TeacherSample, rng: random.Random) -> Transcript:
        """The teacher's walk with its options in another order; one step where each has a prompt.

        What the base says to that is asked of the base itself, so any order will do, and several
        keep more of the skill than the one that was stored.
        """
        root, answers = self._taxonomy.root, sample.answers
        facts = [root] if root.name else []
        if len({answer.transcript for answer in answers}) > 1:
            number = rng.randrange(len(answers))
            known = [self._taxonomy[answer.answer] for answer in answers[:number]]
            return self._single(answers[number], [*facts, *known], rng)
        question, order = self._shuffled(answers[0], rng)
        turn = self._chat.first_turn(question, facts)
        for before, answer in pairwise(answers):
            choice = order.index(before.choice)
            question, order = self._shuffled(answer, rng)
            turn = self._chat.next_turn(turn, choice, question)
        return self._chat.close(turn, order.index(answers[-1].choice))

    def _single(
        self, answer: TeacherAnswer, facts: Sequence[Node], rng: random.Random
    ) -> Transcript:
        """One question by itself, with the teacher's answer to it as the words to go through."""
        question, order = self._shuffled(answer, rng)
        turn = self._chat.first_turn(question, facts)
        return self._chat.close(turn, order.index(answer.choice))

    def _shuffled(self, answer: TeacherAnswer, rng: random.Random) -> tuple[Question, list[int]]:
        """The question with its options in another order, and which of the old stands where."""
        asked = answer.question(self._taxonomy)
        order = rng.sample(range(len(asked.options)), len(asked.options))
        return replace(asked, options=tuple(asked.options[old] for old in order)), order
