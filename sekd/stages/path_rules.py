"""Rules about the paths that a model may take, and about the probabilities that count.

A restriction and temperatures work on the distribution over the children of one node, after the
model was asked about all of them. So what a restriction takes away is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sekd.analysis.temperature import scale
from sekd.data.taxonomy import Node
from sekd.stages.restriction import Restriction


class AdjustedChildren(NamedTuple):
    """The distribution over the children of a node that counts.

    Attributes:
        logprobs: float64 [children]; minus infinity for those that are left out.
        outside: the probability of those that are left out, before they were.
    """

    logprobs: NDArray[np.float64]
    outside: float


@dataclass(frozen=True, eq=False)
class PathRules:
    """Where paths may lead and end, and how the probabilities of children are adjusted.

    Attributes:
        restriction: the leaves that paths may end at; ``None`` for all.
        temperatures: level, 1 for the first one below the root -> what the log-probabilities of its
            nodes are divided by; levels that are not in it are left as they are.
        last_rank: paths end at a node of this rank; ``None`` follows them to a leaf.
    """

    restriction: Restriction | None = None
    temperatures: Mapping[int, float] = field(default_factory=dict)
    last_rank: str | None = None

    @property
    def adjusts(self) -> bool:
        """Whether :meth:`adjust` changes any distribution."""
        return self.restriction is not None or bool(self.temperatures)

    def allows(self, parent: Node, child: Node) -> bool:
        """Tell whether a path may go on from a node to a child, or end at the node itself."""
        return self.restriction is None or self.restriction.allows(parent, child)

    def ends_at(self, node: Node) -> bool:
        """Tell whether a path ends at a node although it may go on in the taxonomy."""
        return node.rank == self.last_rank

    def adjust(
        self, parent: Node, children: Sequence[Node], logprobs: NDArray[np.floating]
    ) -> AdjustedChildren:
        """Apply the temperature of the level, and then leave out and renormalise.

        Args:
            children: at least one of them is allowed.
            logprobs: float [children], those of a distribution.
        """
        adjusted = logprobs.astype(np.float64)
        temperature = self.temperatures.get(parent.depth + 1)
        if temperature is not None:
            adjusted = scale(adjusted, temperature)
        if self.restriction is None:
            return AdjustedChildren(adjusted, 0.0)
        is_allowed = np.array([self.allows(parent, child) for child in children])
        inside = np.where(is_allowed, adjusted, -np.inf)
        kept = np.logaddexp.reduce(inside)
        if np.isneginf(kept):  # the model rules all of them out, and prefers none
            return AdjustedChildren(
                np.where(is_allowed, -np.log(is_allowed.sum()), -np.inf), outside=1.0
            )
        outside = max(0.0, -float(np.expm1(kept)))
        return AdjustedChildren(inside - kept, outside)


NO_RULES = PathRules()
