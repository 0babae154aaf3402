"""A blind solver: it knows the taxonomy and the options, and never sees the image.

Wrong options drawn at random rarely form a path of the taxonomy, so who knows the taxonomy can rule
most of them out (docs/method.md). What this solver gets by choosing uniformly among the paths that
are left is what a question gives away, and belongs beside every score.

The paths are all ways to choose one option a level with the fewest parent-child edges that the
taxonomy lacks: none where the options hold a path of the taxonomy, as they do where the right ones
are among them. They are counted, not listed, so that many options at many levels cost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sekd.data.predictions import Prediction
from sekd.data.questions import Question
from sekd.data.taxonomy import Node

MODEL, PARADIGM = "taxonomy", "options"
"""Under these names the solver's answers stand among those of models."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """The best ways from the first level to one option."""

    num_broken: int
    """Edges that the taxonomy lacks."""
    count: int


class Solution:
    """The paths through one sample's options that the taxonomy makes most plausible.

    Args:
        options: of each level below the root, none empty.

    Raises:
        ValueError: if there is no level, or one without options.
    """

    def __init__(self, options: Sequence[Sequence[Node]]) -> None:
        if not options or not all(options):
            raise ValueError("every sample needs at least one level, and every level one option")
        self._options = options
        self._ways = [[_Ways(0, 1) for _ in options[0]]]
        for above, level in pairwise(options):
            self._ways.append([_best(_extended(above, self._ways[-1], node)) for node in level])
        self._end = _best(self._ways[-1])

    @property
    def num_paths(self) -> int:
        """How many paths there are to choose from."""
        return self._end.count

    @property
    def num_broken(self) -> int:
        """Edges of each of them that the taxonomy lacks."""
        return self._end.num_broken

    def probability(self, path: Sequence[Node]) -> float:
        """Probability of choosing exactly this path, one node a level."""
        is_offered = len(path) == len(self._options) and all(
            node in level for node, level in zip(path, self._options, strict=True)
        )
        edges = pairwise(path)
        num_broken = sum(below.parent != above.id for above, below in edges)
        return 1 / self.num_paths if is_offered and num_broken == self.num_broken else 0.0

    def pick(self, rng: random.Random) -> list[Node]:
        """Choose one of the paths, each with the same probability."""
        ways, target = self._ways[-1], self._end.num_broken
        path: list[Node] = []
        for level in range(len(self._options) - 1, -1, -1):
            nodes = self._options[level]
            weights = [way.count * (way.num_broken == target) for way in ways]
            (place,) = rng.choices(range(len(nodes)), weights)
            path.append(nodes[place])
            target = self._ways[level][place].num_broken
            if level:
                ways = list(
                    _extended(self._options[level - 1], self._ways[level - 1], nodes[place])
                )
        return path[::-1]


def expected_hca(questions: Iterable[Sequence[Question]]) -> float:
    """The solver's hierarchical accuracy, in percent, exactly: the mean over its random choices.

    Args:
        questions: of each labelled sample, one per level below the root.

    Raises:
        ValueError: if there is no sample, or a question without a truth.
    """
    shares = []
    for asked in questions:
        truth = [question.truth for question in asked if question.truth is not None]
        if len(truth) < len(asked):
            raise ValueError("a question has no truth; the solver is scored on labelled samples")
        shares.append(Solution([question.options for question in asked]).probability(truth))
    if not shares:
        raise ValueError("there are no samples to solve")
    return 100 * sum(shares) / len(shares)


def solve(
    samples: Iterable[tuple[str, Sequence[Question]]], *, dataset: str, seed: int
) -> Iterator[Prediction]:
    """Answer as a model would, to be scored like one.

    Args:
        samples: ids and labelled questions, one per level below the root.
        dataset: as it is to stand in the rows.
        seed: of the choices; what is chosen for a sample depends on it and the sample's id alone.

    Yields:
        One row per sample and level, of the model ``taxonomy`` and the paradigm ``options``.

    Raises:
        ValueError: on a question without a truth or options.
    """
    for sample_id, questions in samples:
        rng = random.Random(f"{seed}:{sample_id}")
        path = Solution([question.options for question in questions]).pick(rng)
        for question, node in zip(questions, path, strict=True):
            if question.truth is None:
                raise ValueError(f"sample {sample_id!r} has no truth at level {question.level}")
            yield Prediction(
                model=MODEL,
                dataset=dataset,
                paradigm=PARADIGM,
                sample_id=sample_id,
                level=question.level,
                rank=question.rank,
                options=tuple(option.id for option in question.options),
                truth=question.truth.id,
                prediction=node.id,
            )


def _extended(above: Sequence[Node], ways: Sequence[_Ways], node: Node) -> Iterator[_Ways]:
    """The ways to each option above, and from there to the node."""
    for parent, way in zip(above, ways, strict=True):
        yield _Ways(way.num_broken + (node.parent != parent.id), way.count)


def _best(ways: Iterable[_Ways]) -> _Ways:
    ways = list(ways)
    fewest = min(way.num_broken for way in ways)
    return _Ways(fewest, sum(way.count for way in ways if way.num_broken == fewest))
