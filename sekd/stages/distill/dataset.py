"""The training set: a joint prompt for each sample of the teacher's shards, and replay examples."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sekd.config import DistillSpec
from sekd.data.child_probabilities import ChildProbabilities
from sekd.data.questions import Question
from sekd.data.signals import StateRow, TeacherAnswer, TeacherSample, TeacherShard, read_state_rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, FatalError
from sekd.models.chat import Chat, Transcript
from sekd.models.open_naming import OpenAnswers
from sekd.models.states import StateFile
from sekd.stages.distill.open_examples import OpenExample, open_example

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
    """The joint prompt of one sample with its answers, and the teacher's signals at its letters.

    Attributes:
        letter_ids: for each answer, the token of each option's letter in this transcript. The
            options are in the order that the teacher saw.
        state_rows: for each answer, the record of the state pass.
        states: layer name -> teacher states [answers, D].
    """

    sample: TeacherSample
    transcript: Transcript
    letter_ids: tuple[tuple[int, ...], ...]
    state_rows: tuple[StateRow, ...]
    states: dict[str, Tensor]


@dataclass(frozen=True)
class ReplayExample:
    """A sequence on which the student must keep the base model's distribution."""

    sample: TeacherSample
    transcript: Transcript


Example = JointExample | OpenExample | ReplayExample
ReplayKind = Literal["dialogue", "single", "plain"]
"""What is replayed: the teacher's dialogue, one of its questions alone, or its reply to a plain
prompt."""


@dataclass(frozen=True)
class _Item:
    """The source of one example.

    Attributes:
        shard: index of the shard.
        index: index of the sample within its shard.
        replay_kind: ``None`` for a prompt to learn from.
        leaf: whose path is named without options; ``None`` for the joint prompt.
    """

    shard: int
    index: int
    replay_kind: ReplayKind | None = None
    leaf: Node | None = None


class DistillDataset(Dataset[Example]):
    """One example of each of ``distill.formats`` for each usable sample, and enough replay examples
    to make up ``distill.replay``.

    There are no replay examples if the replay term has weight 0, since nothing would be learned
    from them. The choice of samples to replay and the order of options follow ``distill.seed``.

    Args:
        labels: tables of a descent. What it says about all children of a node on the path that is
            named takes the place of what the teacher says about the options of its question.

    Raises:
        ConfigError: if the teacher is not confident enough of any sample.
    """

    def __init__(
        self,
        shards: Sequence[ShardFiles],
        taxonomy: Taxonomy,
        chat: Chat,
        spec: DistillSpec,
        labels: Sequence[Path] = (),
    ) -> None:
        self._taxonomy = taxonomy
        self._chat = chat
        self._uses_truth = spec.labels == "truth"
        self._seed, self.epoch = spec.seed, 0
        self._shards = [TeacherShard(shard.transcripts, shard.answers) for shard in shards]
        self._state_rows = [read_state_rows(shard.state_rows) for shard in shards]
        self._states = [StateFile(shard.states) for shard in shards]
        self._open_answers = OpenAnswers(chat, taxonomy) if "open" in spec.formats else None
        self._children = ChildProbabilities(labels) if labels else None
        joint_items = self._joint_items(spec.min_confidence)
        taught = list(joint_items) if "quiz" in spec.formats else []
        if "open" in spec.formats:
            taught += self._open_items(joint_items)
        share = spec.replay if spec.losses.replay else 0.0
        num_replayed = round(len(taught) * share / (1 - share))
        self._items = [*taught, *self._replay_items(joint_items, num_replayed)]

    def _joint_items(self, min_confidence: float) -> list[_Item]:
        """List the samples that have stored states and a confident teacher."""
        items, best = [], 0.0
        for shard_index, shard in enumerate(self._shards):
            with_states = {sample_id for sample_id, _ in self._state_rows[shard_index]}
            lowest = shard.lowest_confidence()
            best = max([best, *lowest.values()])
            items += [
                _Item(shard_index, sample_index)
                for sample_index, sample_id in enumerate(shard.sample_ids)
                if sample_id in with_states and lowest[sample_id] >= min_confidence
            ]
        if not items:
            raise ConfigError(
                f"distill.min_confidence: {min_confidence:g} leaves no sample; the best has "
                f"{best:.3g} at its least confident level"
            )
        if min_confidence:
            num_samples = sum(len(shard) for shard in self._shards)
            logger.info("the teacher is confident of %d of %d samples", len(items), num_samples)
        return items

    def _open_items(self, joint_items: Sequence[_Item]) -> list[_Item]:
        """List the samples whose answers lie on the path to a leaf.

        Raises:
            ConfigError: if there is none.
        """
        column: Literal["answer", "truth"] = "truth" if self._uses_truth else "answer"
        nodes = [shard.nodes(column) for shard in self._shards]
        items = []
        for item in joint_items:
            sample_id = self._shards[item.shard].sample_ids[item.index]
            leaf = self._leaf_of(nodes[item.shard][sample_id])
            if leaf is not None:
                items.append(replace(item, leaf=leaf))
        if not items:
            raise ConfigError(
                "distill.formats: open: no sample's answers are a path of the taxonomy to a leaf, "
                "so there is nothing to name; leave open out"
            )
        if len(items) < len(joint_items):
            logger.info(
                "the answers of %d of %d samples are no path to a leaf, and are not named",
                len(joint_items) - len(items),
                len(joint_items),
            )
        if self._children is not None:
            ids = [self._shards[item.shard].sample_ids[item.index] for item in items]
            logger.info(
                "a descent says of %d of %d named samples how probable all children are",
                sum(sample_id in self._children for sample_id in ids),
                len(ids),
            )
        return items

    def _leaf_of(self, node_ids: Sequence[str | None]) -> Node | None:
        """Return the leaf whose path has all of these nodes, of which the last is the deepest.

        Levels with a single node are not asked about, so some nodes of the path may be missing.
        """
        if None in node_ids:
            return None
        leaf = self._taxonomy[str(node_ids[-1])]
        while leaf.id not in self._taxonomy.leaf_ids:
            children = self._taxonomy.children(leaf)
            if len(children) > 1:
                return None
            (leaf,) = children
        path = {node.id for node in self._taxonomy.path(leaf)}
        return leaf if path.issuperset(node_ids) else None

    def _replay_items(self, joint_items: Sequence[_Item], num_replayed: int) -> list[_Item]:
        """Draw samples to replay, equally many for each kind of replay."""
        with_plain = [shard.with_plain_replies() for shard in self._shards]
        plain_items = [
            item
            for item in joint_items
            if self._shards[item.shard].sample_ids[item.index] in with_plain[item.shard]
        ]
        candidates: dict[ReplayKind, Sequence[_Item]] = {
            "dialogue": joint_items,
            "single": joint_items,
        }
        if plain_items:
            candidates["plain"] = plain_items
        kinds, rng = list(candidates), random.Random(self._seed)
        items = []
        for number in range(num_replayed):
            kind = kinds[number % len(kinds)]
            items.append(replace(rng.choice(candidates[kind]), replay_kind=kind))
        return items

    @property
    def layers(self) -> list[str]:
        """Names of the layers whose states are stored."""
        return self._states[0].layers

    @property
    def lengths(self) -> list[int]:
        """The approximate number of tokens of each example, with its image expanded."""
        lengths = [shard.num_prompt_tokens() for shard in self._shards]
        return [lengths[item.shard][item.index] for item in self._items]

    @property
    def is_replay(self) -> list[bool]:
        """For each example, whether it is a :class:`ReplayExample`."""
        return [item.replay_kind is not None for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Example:
        item = self._items[index]
        sample = self._shards[item.shard][item.index]
        rng = random.Random(f"{self._seed}:{self.epoch}:{index}")
        if item.replay_kind is not None:
            return ReplayExample(sample, self._replay_transcript(sample, item.replay_kind, rng))
        file = self._states[item.shard]
        state_rows = tuple(
            self._state_rows[item.shard][sample.sample_id, answer.level]
            for answer in sample.answers
        )
        states = {
            layer: torch.stack([file.row(layer, state_row.row) for state_row in state_rows])
            for layer in file.layers
        }
        if item.leaf is not None:
            assert self._open_answers is not None
            probabilities = self._probabilities(sample, item.leaf)
            return open_example(self._open_answers, sample, item.leaf, probabilities, states)
        transcript, letter_ids = self._joint_transcript(sample, rng)
        return JointExample(sample, transcript, letter_ids, state_rows, states)

    def _probabilities(self, sample: TeacherSample, leaf: Node) -> dict[int, Mapping[str, float]]:
        """Return the teacher's probabilities by level, from 0 on: node id -> probability.

        They are those of all children where a descent came to this place of the path, and otherwise
        those of a question's options.
        """
        probabilities: dict[int, Mapping[str, float]] = {
            answer.level - 1: dict(
                zip(answer.options, np.exp(answer.mean_logprobs).tolist(), strict=True)
            )
            for answer in sample.answers
        }
        if self._children is not None:
            path = self._taxonomy.path(leaf)
            descent = self._children.of(sample.sample_id).items()
            # A path that ends at a node with children has this node among them.
            probabilities |= {
                level: children
                for level, children in descent
                if path[min(level, len(path) - 1)].id in children
            }
        return probabilities

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the options are shown in another order in each epoch."""
        self.epoch = epoch

    def _joint_transcript(
        self, sample: TeacherSample, rng: random.Random
    ) -> tuple[Transcript, tuple[tuple[int, ...], ...]]:
        """Return the joint prompt with shuffled options and its answers, and the letters.

        The letters of each answer are in the *teacher's* order of options. The options are shuffled
        because a student that always sees one order learns which letters belong to an image, and
        fails on the next image.
        """
        questions, choices, letter_ids = [], [], []
        for answer in sample.answers:
            question, order = self._shuffle_options(answer, rng)
            questions.append(question)
            choices.append(order.index(self._label(answer)))
            letters = self._chat.joint_letter_ids(question)
            letter_ids.append(tuple(letters[order.index(option)] for option in range(len(order))))
        transcript = self._chat.joint_transcript(questions, choices, self._taxonomy.root)
        return transcript, tuple(letter_ids)

    def _label(self, answer: TeacherAnswer) -> int:
        """Return the index of the option to learn, in the order that the teacher saw.

        Raises:
            FatalError: if ``distill.labels`` is ``truth`` and no option is the true node; the
                message names the sample and the level.
        """
        if not self._uses_truth:
            return answer.choice
        if answer.truth not in answer.options:
            raise FatalError(
                f"sample {answer.sample_id}, level {answer.level}: distill.labels is truth, but "
                f"its true node is {answer.truth!r}, which is no option"
            )
        return answer.options.index(answer.truth)

    def _replay_transcript(
        self, sample: TeacherSample, kind: ReplayKind, rng: random.Random
    ) -> Transcript:
        if kind == "dialogue":
            return self._dialogue(sample, rng)
        if kind == "single":
            return self._single_question(rng.choice(sample.answers), [], rng)
        with_answers = {answer.transcript for answer in sample.answers}
        plain_replies = [
            transcript
            for number, transcript in enumerate(sample.transcripts)
            if number not in with_answers
        ]
        reply = rng.choice(plain_replies)
        return Transcript(reply.token_ids, (), reply.is_target)

    def _dialogue(self, sample: TeacherSample, rng: random.Random) -> Transcript:
        """Return the teacher's dialogue with its options in another order.

        If the teacher answered each level in a prompt of its own (``elicit.style: facts``), return
        one of those prompts. The base model itself gives the distribution to keep, so any order of
        the options can be replayed. Several orders keep more of the skill than the stored one.
        """
        root, answers = self._taxonomy.root, sample.answers
        facts = [root] if root.name else []
        if len({answer.transcript for answer in answers}) > 1:
            index = rng.randrange(len(answers))
            known = [self._taxonomy[answer.answer] for answer in answers[:index]]
            return self._single_question(answers[index], [*facts, *known], rng)
        question, order = self._shuffle_options(answers[0], rng)
        turn = self._chat.first_turn(question, facts)
        for previous, answer in pairwise(answers):
            choice = order.index(previous.choice)
            question, order = self._shuffle_options(answer, rng)
            turn = self._chat.next_turn(turn, choice, question)
        return self._chat.close(turn, order.index(answers[-1].choice))

    def _single_question(
        self, answer: TeacherAnswer, facts: Sequence[Node], rng: random.Random
    ) -> Transcript:
        """Return a conversation of one question and the teacher's answer to it."""
        question, order = self._shuffle_options(answer, rng)
        turn = self._chat.first_turn(question, facts)
        return self._chat.close(turn, order.index(answer.choice))

    def _shuffle_options(
        self, answer: TeacherAnswer, rng: random.Random
    ) -> tuple[Question, list[int]]:
        """Return the question with its options shuffled, and the old index of each option."""
        question = answer.question(self._taxonomy)
        order = rng.sample(range(len(question.options)), len(question.options))
        return replace(question, options=tuple(question.options[old] for old in order)), order
