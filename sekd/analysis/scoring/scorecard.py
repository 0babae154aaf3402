"""The score of a file of predictions, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sekd.analysis.breakdown import NodeAccuracy, SubtreeMetrics, score_nodes, score_subtrees
from sekd.analysis.comparison import PairedComparison, compare_paths, ids_only_in
from sekd.analysis.estimates import Estimate, MetricValues
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import Paths
from sekd.analysis.rates import compute_metrics
from sekd.analysis.scoring.files import FileOptions
from sekd.analysis.scoring.resolve import ResolvedCell, resolve_predictions
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

_NUM_LISTED_SAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Everything that is measured of one cell of a file.

    Attributes:
        names: of the cell, by column; empty where the file has no such column.
        num_unknown: the number of answers that the taxonomy does not have at their level.
        comparison: with the cell of another file, if there is one.
        is_leaf_only: every answer is a leaf alone; its path is the taxonomy's.
    """

    names: Mapping[str, str]
    metrics: MetricValues[Estimate]
    num_unknown: int
    subtrees: Sequence[SubtreeMetrics]
    nodes: Sequence[NodeAccuracy]
    comparison: PairedComparison | None
    is_leaf_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd score --json`` prints of a cell."""
        content = {
            **self.names,
            **self.metrics.to_json(),
            "num_unknown_predictions": self.num_unknown,
            "leaf_only": self.is_leaf_only,
            "subtrees": [subtree.to_json() for subtree in self.subtrees],
            "nodes": [node.to_json() for node in self.nodes],
        }
        if self.comparison is not None:
            content["comparison"] = self.comparison.to_json()
        return content


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The settings with which a file is scored.

    Attributes:
        subtree_level: level of the nodes whose subtrees are scored by themselves; ``None`` for the
            first level below the root.
        alpha: weight of the last level in DWPA.
        num_bootstrap: number of draws behind each interval of a difference.
        seed: seed of the draws.
    """

    subtree_level: int | None = None
    alpha: float = 0.95
    num_bootstrap: int = 1000
    seed: int = 0

    def score_cell(self, cell: ResolvedCell, other: ResolvedCell | None = None) -> Scorecard:
        """Score a cell, and compare it with a cell of another file.

        Raises:
            ConfigError: if no sample has the subtrees' level, or ``other`` has not the same
                samples.
        """
        level = 1 if self.subtree_level is None else self.subtree_level
        comparison = None if other is None else self._compare(cell.paths, other.paths)
        try:
            subtrees = score_subtrees(cell.paths, level, alpha=self.alpha)
        except ValueError as error:
            raise ConfigError(f"--subtree-level: {error}") from error
        metrics = compute_metrics(Outcomes.of(cell.paths), alpha=self.alpha)
        if not cell.has_own_paths:
            metrics = replace(metrics, paths={**metrics.paths, "tice": None})
        return Scorecard(
            names=cell.names,
            metrics=metrics,
            is_leaf_only=cell.is_leaf_only,
            num_unknown=cell.num_unknown,
            subtrees=subtrees,
            nodes=score_nodes(cell.paths),
            comparison=comparison,
        )

    def _compare(self, paths: Paths, other: Paths) -> PairedComparison:
        """Subtract ``other``, which must have the same samples.

        Raises:
            ConfigError: if it has not; the message names some of the missing samples.
        """
        for file_name, ids in (
            ("PREDICTIONS", ids_only_in(paths, other)),
            ("OTHER", ids_only_in(other, paths)),
        ):
            if ids:
                named = ", ".join(map(repr, ids[:_NUM_LISTED_SAMPLES]))
                raise ConfigError(
                    f"--compare: {len(ids):,} samples are in {file_name} alone, e.g. {named}; "
                    "differences are taken over the same samples"
                )
        try:
            return compare_paths(
                paths, other, alpha=self.alpha, num_bootstrap=self.num_bootstrap, seed=self.seed
            )
        except ValueError as error:
            raise ConfigError(f"--compare: {error}") from error


def find_counterpart(
    cell: ResolvedCell, cells: Sequence[ResolvedCell], others: Sequence[ResolvedCell]
) -> ResolvedCell:
    """Return the cell of another file to compare with.

    It is the cell of the same names, or the only cell where both files have only one.

    Raises:
        ConfigError: if there is no such cell.
    """
    if len(cells) == len(others) == 1:
        return others[0]
    for other in others:
        if other.names == cell.names:
            return other
    available = "; ".join(map(str, others))
    raise ConfigError(
        f"--compare: OTHER has no {cell}, but {available}; choose one of each file with --only, or "
        "name them alike"
    )


@dataclass(frozen=True)
class FileScore:
    """The score of a file of predictions.

    Attributes:
        taxonomy: what the answers were looked up in.
        root_is_scored: whether the root counts, as level 0.
        cards: one per cell: per combination of model, dataset, paradigm and control in the file.
        warnings: sentences about what was counted but should not be there.
    """

    taxonomy: Taxonomy
    root_is_scored: bool
    cards: Sequence[Scorecard]
    warnings: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd score --json`` prints: the rows, or the one cell of a file."""
        contents = [card.to_json() for card in self.cards]
        content = {"rows": contents} if self.cards[0].names else contents[0]
        return {"root_is_scored": self.root_is_scored, **content}


def score_file(
    predictions: Path,
    taxonomy: Taxonomy,
    scoring: Scoring,
    *,
    compare: Path | None = None,
    only: Mapping[str, str] | None = None,
    score_root: bool = False,
    options: FileOptions | None = None,
) -> FileScore:
    """Score a file of predictions, and compare it with another one.

    Args:
        compare: other predictions for the same samples.
        only: column -> value; other rows of both files are left out.
        score_root: also score the root, as level 0.
        options: what is told about both files.

    Raises:
        ConfigError: if a file cannot be read or resolved, or the two cannot be compared.
    """
    files = [
        resolve_predictions(path, taxonomy, only=only or {}, score_root=score_root, options=options)
        for path in (predictions, compare)
        if path is not None
    ]
    cells = files[0].cells
    others = [find_counterpart(cell, cells, files[1].cells) if compare else None for cell in cells]
    return FileScore(
        taxonomy=taxonomy,
        root_is_scored=score_root,
        cards=[scoring.score_cell(*pair) for pair in zip(cells, others, strict=True)],
        warnings=[warning for file in files for warning in file.warnings],
    )
