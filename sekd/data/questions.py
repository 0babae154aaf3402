"""Multiple-choice questions down a taxonomy, seeded per sample.

Four ways to choose the options of a level:

- ``random``: the right node and others of its level (the published benchmark's first mode);
- ``siblings``: the right node and other children of its parent, filled up from its level, so that
  knowing the taxonomy without seeing the image does not give the answer away;
- ``similar``: the right node and the most similar others of its level;
- ``given``: the options that a benchmark row brings along.

The questions of a descent, which needs no label, follow from its answers:
:mod:`sekd.data.branching`.
"""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Literal, overload

from sekd.data.similar import SimilarNodes
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import SampleError

LETTERS = string.ascii_uppercase
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Question:
    """One level's question.

    Attributes:
        level: 1 for the first level below the root.
        options: nodes in the order shown; option i has the letter ``LETTERS[i]``.
        truth: the right node where the sample is labelled, else ``None``. It is not among the
            options where a descent has left the right path.
        asked_rank: the rank that the question asks for, where the options do not decide it.
    """

    level: int
    options: tuple[Node, ...]
    truth: Node | None
    asked_rank: str | None = None

    @property
    def rank(self) -> str:
        """The rank that the question asks for, e.g. "phylum"."""
        if self.asked_rank is not None:
            return self.asked_rank
        if self.truth is not None and self.truth in self.options:
            return self.truth.rank
        return self.options[0].rank

    @property
    def right(self) -> int | None:
        """The index of the right option, if the truth is known and among the options."""
        if self.truth is None or self.truth not in self.options:
            return None
        return self.options.index(self.truth)

    @property
    def is_given(self) -> bool:
        """There is one option, which is known without asking anybody."""
        return len(self.options) == 1

    @property
    def letters(self) -> str:
        """The letters of the options, e.g. "ABCD"."""
        return LETTERS[: len(self.options)]


def labelled_questions(
    taxonomy: Taxonomy,
    leaf: Node,
    *,
    sample_id: str,
    distractors: Literal["random", "siblings", "similar"],
    num_options: int,
    seed: int,
    similar: SimilarNodes | None = None,
) -> list[Question]:
    """Make all questions of a labelled sample, from level 1 to the leaf.

    The options and their order depend on (seed, sample_id, level) alone. A level with fewer than
    ``num_options`` nodes shows them all. No two options of a question read alike.

    Args:
        similar: the ranks of similar options.

    Raises:
        SampleError: if there are no ranks for this sample.
    """
    rng = random.Random()
    questions = []
    for node in taxonomy.path(leaf):
        rng.seed(f"{seed}:{sample_id}:{node.depth}")
        if distractors == "similar":
            wrong = _most_similar(taxonomy, node, sample_id, similar)[: num_options - 1]
        else:
            siblings = taxonomy.siblings(node) if distractors == "siblings" else []
            wrong = _draw_wrong(taxonomy, node, siblings, num_options - 1, rng)
        options = [node, *wrong]
        rng.shuffle(options)
        questions.append(Question(node.depth, tuple(options), node))
    return questions


def _draw_wrong(
    taxonomy: Taxonomy, node: Node, siblings: Sequence[Node], num_wrong: int, rng: random.Random
) -> list[Node]:
    """Draw siblings, and then other peers where there are too few of them."""
    wrong = rng.sample(siblings, min(len(siblings), num_wrong)) if siblings else []
    others: Sequence[Node] = ()
    if len(wrong) < num_wrong:
        others = _AllBut(taxonomy.peers(node), map(taxonomy.place, [node, *siblings]))
        wrong += rng.sample(others, min(len(others), num_wrong - len(wrong)))
    keys = {option_key(node.name), *(option_key(option.name) for option in wrong)}
    if len(keys) == 1 + len(wrong):
        return wrong
    # Two of them read alike: draw again, from all peers in a random order.
    others = others or _AllBut(taxonomy.peers(node), map(taxonomy.place, [node, *siblings]))
    pools = (siblings, others)
    return _unlike(node, chain(*(rng.sample(pool, len(pool)) for pool in pools)))[:num_wrong]


def _most_similar(
    taxonomy: Taxonomy, node: Node, sample_id: str, similar: SimilarNodes | None
) -> list[Node]:
    """Return ranked peers, none of which reads like another one or like the right one."""
    ranked = None if similar is None else similar.ranked(taxonomy, node, sample_id)
    if ranked is None:
        raise SampleError(f"no node was ranked as similar to {node.name!r}", level=node.depth)
    return _unlike(node, ranked)


def _unlike(node: Node, others: Iterable[Node]) -> list[Node]:
    """Return the first of each of the others that read alike, and none that reads like the node."""
    unlike: dict[str, Node] = {}
    for other in others:
        unlike.setdefault(option_key(other.name), other)
    unlike.pop(option_key(node.name), None)
    return list(unlike.values())


class _AllBut(Sequence[Node]):
    """All nodes of a list but a few, without a copy of the list, which may be long."""

    def __init__(self, nodes: Sequence[Node], places: Iterable[int]) -> None:
        self._nodes = nodes
        self._places = sorted(places)

    def __len__(self) -> int:
        return len(self._nodes) - len(self._places)

    @overload
    def __getitem__(self, index: int) -> Node: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Node]: ...

    def __getitem__(self, index: int | slice) -> Node | Sequence[Node]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        for place in self._places:
            if place > index:
                break
            index += 1
        return self._nodes[index]


def shown_text(name: str) -> str:
    """Return a name as prompts show it: line breaks and control characters become spaces.

    A line break in a name would look like the next option.
    """
    return name if name.isprintable() else _CONTROLS.sub(" ", name)


@lru_cache(maxsize=1 << 16)
def option_key(name: str) -> str:
    """Return a text that is equal for names which a reader cannot tell apart.

    They differ in case, spaces or Unicode form at most.
    """
    return " ".join(unicodedata.normalize("NFKC", shown_text(name)).casefold().split())


def has_lookalikes(taxonomy: Taxonomy) -> bool:
    """Tell whether two nodes of one level read alike, or a name is not shown as it is written.

    The questions about such a taxonomy are not those of earlier versions, which showed both.
    """
    levels: dict[tuple[int, str], set[str]] = {}
    for node in taxonomy.nodes:
        keys, key = levels.setdefault((node.depth, node.rank), set()), option_key(node.name)
        if key in keys or shown_text(node.name) != node.name:
            return True
        keys.add(key)
    return False


def _refuse_lookalikes(options: Sequence[Node], level: int) -> None:
    """Raise a SampleError if two options read alike."""
    seen: dict[str, Node] = {}
    for option in options:
        other = seen.setdefault(option_key(option.name), option)
        if other is not option:
            raise SampleError(
                f"the options {other.name!r} ({other.id}) and {option.name!r} ({option.id}) read "
                "alike; rename one of them in the taxonomy",
                level=level,
            )


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
        _refuse_lookalikes(options, node.depth)
        questions.append(Question(node.depth, tuple(options), node))
    return questions
