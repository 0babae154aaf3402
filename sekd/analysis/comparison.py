"""Two cells side by side, over the samples that both have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.estimates import Difference, MetricValues
from sekd.analysis.intervals import McNemarTest, mcnemar_test
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import BoolArray, Paths
from sekd.analysis.rates import compute_differences

_NUM_NAMED = 3


@dataclass(frozen=True)
class Agreement:
    """The number of samples that both, one or none of two cells has right."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int

    @classmethod
    def of(cls, a: BoolArray, b: BoolArray) -> Agreement:
        """Count over bool[N]: the sample is right in ``a``, and in ``b``."""
        return cls(
            both_right=int((a & b).sum()),
            only_a=int((a & ~b).sum()),
            only_b=int((~a & b).sum()),
            both_wrong=int((~a & ~b).sum()),
        )

    @property
    def num_samples(self) -> int:
        """The number of samples in both."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def mcnemar(self) -> McNemarTest:
        """Test whether a and b are right equally often."""
        return mcnemar_test(self.only_a, self.only_b)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as ``num_...``, their shares in percent, and ``mcnemar``."""
        num = self.num_samples
        counts = asdict(self)
        return {
            "num_samples": num,
            **{f"num_{name}": count for name, count in counts.items()},
            **{name: 100 * count / num if num else None for name, count in counts.items()},
            "mcnemar": asdict(self.mcnemar),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Agreement:
        """Read the counts that :meth:`to_json` returns; the rest follows from them."""
        return cls(
            both_right=content["num_both_right"],
            only_a=content["num_only_a"],
            only_b=content["num_only_b"],
            both_wrong=content["num_both_wrong"],
        )


@dataclass(frozen=True)
class PairedComparison:
    """Paths a beside paths b over the samples that both have.

    Attributes:
        num_samples: the number of samples that both have.
        num_only_in_a, num_only_in_b: the numbers of samples that are left out.
        differences: ``a - b`` for every metric.
        whole_path: which of the two has every level right.
        leaf: which of the two has the deepest level right.
        levels: level -> which of the two has that level right.
    """

    num_samples: int
    num_only_in_a: int
    num_only_in_b: int
    differences: MetricValues[Difference]
    whole_path: Agreement
    leaf: Agreement
    levels: Mapping[int, Agreement]

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``comparisons`` in ``metrics.json``, without the names of a and b."""
        return {
            "num_samples": self.num_samples,
            "num_only_in_a": self.num_only_in_a,
            "num_only_in_b": self.num_only_in_b,
            "differences": self.differences.to_json(),
            "agreement": {
                "hca": self.whole_path.to_json(),
                "leaf_accuracy": self.leaf.to_json(),
                "level_accuracy": {
                    str(level): agreement.to_json() for level, agreement in self.levels.items()
                },
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PairedComparison:
        """Read what :meth:`to_json` returns; other keys are ignored."""
        agreement = content["agreement"]
        return cls(
            num_samples=content["num_samples"],
            num_only_in_a=content["num_only_in_a"],
            num_only_in_b=content["num_only_in_b"],
            differences=MetricValues.from_json(content["differences"], Difference.from_json),
            whole_path=Agreement.from_json(agreement["hca"]),
            leaf=Agreement.from_json(agreement["leaf_accuracy"]),
            levels={
                int(level): Agreement.from_json(counts)
                for level, counts in agreement["level_accuracy"].items()
            },
        )


def compare_paths(
    a: Paths, b: Paths, *, num_bootstrap: int, seed: int, alpha: float = 0.95
) -> PairedComparison:
    """Compare two models or paradigms on one dataset, over the samples that both have.

    Args:
        a: paths of one model and paradigm, such as the student's joint ones.
        b: paths of another, such as its teacher's: the base's conditioned ones.
        num_bootstrap: number of draws behind each interval.
        seed: seed of the draws.
        alpha: weight of the last level in DWPA.

    Raises:
        ValueError: if no sample is in both, or one has another truth in ``b``.
    """
    num_in_a, num_in_b = len(a), len(b)
    a, b = paths_of_shared_samples(a, b)
    return PairedComparison(
        num_samples=len(a),
        num_only_in_a=num_in_a - len(a),
        num_only_in_b=num_in_b - len(a),
        differences=compute_differences(
            Outcomes.of(a), Outcomes.of(b), alpha=alpha, num_bootstrap=num_bootstrap, seed=seed
        ),
        whole_path=Agreement.of(a.whole_is_right, b.whole_is_right),
        leaf=Agreement.of(a.leaf_is_right, b.leaf_is_right),
        levels={
            a.first_level + column: Agreement.of(
                a.correct[has_level, column], b.correct[has_level, column]
            )
            for column, has_level in enumerate(a.scored.T)
        },
    )


def paths_of_shared_samples(a: Paths, b: Paths) -> tuple[Paths, Paths]:
    """Return both over the samples that both have, in the order of ``a``.

    Raises:
        ValueError: if no sample is in both, or one has another truth in ``b``.
    """
    indices_in_b = pc.index_in(a.sample_ids, b.sample_ids)
    in_a = np.flatnonzero(indices_in_b.is_valid().to_numpy(zero_copy_only=False))
    if not len(in_a):
        raise ValueError("no sample is in both a and b")
    in_b = indices_in_b.drop_null().to_numpy().astype(np.int64)
    a, b = a.take(in_a), b.take(in_b)
    _refuse_other_truths(a, b)
    return a, b


def ids_only_in(paths: Paths, other: Paths) -> list[str]:
    """Return the ids of the samples that ``paths`` has and ``other`` has not."""
    is_shared = pc.is_in(paths.sample_ids, other.sample_ids)
    ids: list[str] = paths.sample_ids.filter(pc.invert(is_shared)).to_pylist()
    return ids


def _refuse_other_truths(a: Paths, b: Paths) -> None:
    width = min(a.truth.shape[1], b.truth.shape[1])
    has_other_node = a.scored[:, :width] & (a.truth[:, :width] != b.truth[:, :width])
    differing = np.flatnonzero((a.num_levels != b.num_levels) | has_other_node.any(axis=1))
    if a.first_level != b.first_level or len(differing):
        examples = a.sample_ids.take(pa.array(differing[:_NUM_NAMED])).to_pylist()
        named = ", ".join(map(repr, examples))
        raise ValueError(
            f"{len(differing):,} samples have another truth in a than in b, e.g. {named}; compare "
            "predictions for the same labels"
        )
