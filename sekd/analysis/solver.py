"""A blind solver: it knows the taxonomy and the options, and never sees the image.

Wrong options drawn at random rarely form a path of the taxonomy, so a model that knows the taxonomy
can rule most of them out (docs/method.md). The solver chooses uniformly among the paths that are
left. What it gets right is what a question gives away, and belongs beside every score.

The paths that are left are all ways to choose one option per level with the fewest parent-child
edges that the taxonomy lacks. That is none where the options hold a path of the taxonomy, as they
do where the right options are among them. The paths are counted, not listed, so that many options
at many levels cost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sekd.config import SOLVER
from sekd.data.predictions import Prediction
from sekd.data.questions import Question
from sekd.data.taxonomy import Node

PARADIGM = "options"
"""The paradigm of the solver's rows."""


@dataclass(frozen=True, slots=True)
class _BestPaths:
    """The paths from the first level to one option with the fewest broken edges.

    Attributes:
        num_broken: the number of edges of each path that the taxonomy lacks.
        count: the number of these paths.
    """

    num_broken: int
    count: int


class Solution:
    """The paths through one sample's options that the taxonomy makes most plausible.

    Args:
        options: the options of each level below the root, none empty.

    Raises:
        ValueError: if there is no level, or one without options.
    """

    def __init__(self, options: Sequence[Sequence[Node]]) -> None:
        if not options or not all(options):
            raise ValueError("every sample needs at least one level, and every level one option")
        self._options = options
        self._best = [[_BestPaths(0, 1) for _ in options[0]]]
        for above, level in pairwise(options):
            self._best.append(
                [_fewest_broken(_extend_to(node, above, self._best[-1])) for node in level]
            )
        self._overall = _fewest_broken(self._best[-1])

    @property
    def num_paths(self) -> int:
        """The number of paths to choose from."""
        return self._overall.count

    @property
    def num_broken(self) -> int:
        """The number of edges of each path that the taxonomy lacks."""
        return self._overall.num_broken

    def pick(self, rng: random.Random) -> list[Node]:
        """Choose one of the paths, each with the same probability."""
        candidates, num_broken = self._best[-1], self.num_broken
        path: list[Node] = []
        for level in range(len(self._options) - 1, -1, -1):
            nodes = self._options[level]
            weights = [paths.count if paths.num_broken == num_broken else 0 for paths in candidates]
            (index,) = rng.choices(range(len(nodes)), weights)
            path.append(nodes[index])
            num_broken = self._best[level][index].num_broken
            if level:
                candidates = list(
                    _extend_to(nodes[index], self._options[level - 1], self._best[level - 1])
                )
        return path[::-1]


def solve(
    samples: Iterable[tuple[str, Sequence[Question]]], *, dataset: str, seed: int
) -> Iterator[Prediction]:
    """Answer as a model would, to be scored like one.

    Args:
        samples: ids and labelled questions, one question per level below the root.
        dataset: the name of the dataset in the rows.
        seed: seed of the choices; a sample's choice depends on it and the sample's id alone.

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
                model=SOLVER,
                dataset=dataset,
                paradigm=PARADIGM,
                sample_id=sample_id,
                level=question.level,
                rank=question.rank,
                options=tuple(option.id for option in question.options),
                truth=question.truth.id,
                prediction=node.id,
            )


def _extend_to(
    node: Node, above: Sequence[Node], best_above: Sequence[_BestPaths]
) -> Iterator[_BestPaths]:
    """Extend the best paths to each option one level up by the edge from there to the node."""
    for parent, paths in zip(above, best_above, strict=True):
        is_broken = node.parent != parent.id
        yield _BestPaths(paths.num_broken + (1 if is_broken else 0), paths.count)


def _fewest_broken(paths: Iterable[_BestPaths]) -> _BestPaths:
    paths = list(paths)
    fewest = min(each.num_broken for each in paths)
    return _BestPaths(fewest, sum(each.count for each in paths if each.num_broken == fewest))
