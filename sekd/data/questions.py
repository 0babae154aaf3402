"""Multiple-choice questions down a taxonomy, seeded per sample.

Four ways to choose the options of a level:

- ``random``: the right node and others of its level (the published benchmark's first mode);
- ``siblings``: the right node and other children of its parent, filled up from its level, so that
  knowing the taxonomy without seeing the image does not give the answer away;
- ``walk``: all children of the node that was answered one level up, which needs no label;
- ``given``: the options that a benchmark row brings along.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import SampleError

LETTERS = string.ascii_uppercase
Distractors = Literal["random", "siblings", "walk"]


@dataclass(frozen=True, slots=True)
class Question:
    """One level's question.

    Attributes:
        level: 1 for the first level below the root.
        options: nodes in the order shown; option i has the letter ``LETTERS[i]``.
        truth: the right node where the sample is labelled, else ``None``. It is not among the
            options where a walk has left the right path.
    """

    level: int
    options: tuple[Node, ...]
    truth: Node | None

    @property
    def rank(self) -> str:
        """The rank that the question asks for, e.g. "phylum"."""
        if self.truth is not None and self.truth in self.options:
            return self.truth.rank
        return self.options[0].rank

    @property
    def letters(self) -> str:
        """The letters of the options, e.g. "ABCD"."""
        return LETTERS[: len(self.options)]


def labelled_questions(
    taxonomy: Taxonomy,
    leaf: Node,
    *,
    sample_id: str,
    distractors: Literal["random", "siblings"],
    num_options: int,
    seed: int,
) -> list[Question]:
    """Make all questions of a labelled sample, from level 1 to the leaf.

    The options and their order depend on (seed, sample_id, level) alone. A level with fewer than
    ``num_options`` nodes shows them all.
    """
    questions = []
    for node in taxonomy.path(leaf):
        rng = random.Random(f"{seed}:{sample_id}:{node.depth}")
        peers = [peer for peer in taxonomy.peers(node) if peer != node]
        wrong: list[Node] = []
        if distractors == "siblings":
            siblings = [peer for peer in peers if peer.parent == node.parent]
            wrong = rng.sample(siblings, min(len(siblings), num_options - 1))
            peers = [peer for peer in peers if peer.parent != node.parent]
        num_missing = num_options - 1 - len(wrong)
        wrong += rng.sample(peers, min(len(peers), num_missing))
        options = [node, *wrong]
        rng.shuffle(options)
        questions.append(Question(node.depth, tuple(options), node))
    return questions


def walk_question(
    taxonomy: Taxonomy, node: Node, *, sample_id: str, seed: int, truth: Node | None = None
) -> Question | None:
    """Make the question below ``node`` with all its children, shuffled; ``None`` at a leaf.

    Raises:
        SampleError: if there are more children than letters.
    """
    children = taxonomy.children(node)
    if not children:
        return None
    if len(children) > len(LETTERS):
        raise SampleError(
            f"{node.id or 'the root'!r} has {len(children)} children, more than the "
            f"{len(LETTERS)} letters of a question; label the samples or split the node",
            level=node.depth + 1,
        )
    random.Random(f"{seed}:{sample_id}:{node.depth + 1}").shuffle(children)
    return Question(node.depth + 1, tuple(children), truth)


def given_questions(
    taxonomy: Taxonomy, leaf: Node, choices: Sequence[Sequence[str]]
) -> list[Question]:
    """Make the questions whose options, in their order, a benchmark row brings along.

    Args:
        choices: option names, one sequence per level below the root.

    Raises:
        SampleError: if an option is not in the taxonomy, the right one is not among them, or there
            are more options than letters.
    """
    path = taxonomy.path(leaf)
    if len(choices) != len(path):
        raise SampleError(f"{len(choices)} levels of options for a path of {len(path)} levels")
    questions = []
    for node, names in zip(path, choices, strict=True):
        if len(names) > len(LETTERS):
            raise SampleError(
                f"{len(names)} options, more than the {len(LETTERS)} letters of a question",
                level=node.depth,
            )
        options = []
        for name in names:
            if name.casefold() == node.name.casefold():
                options.append(node)
                continue
            nodes = taxonomy.named(name, node.depth)
            if not nodes:
                raise SampleError(
                    f"the option {name!r} is no node at level {node.depth} of {taxonomy.source}",
                    level=node.depth,
                )
            options.append(nodes[0])  # any of several namesakes: the option is wrong anyway
        if node not in options or len(set(options)) < len(options):
            raise SampleError(
                f"the options {list(names)} must hold {node.name!r} and no name twice",
                level=node.depth,
            )
        questions.append(Question(node.depth, tuple(options), node))
    return questions
