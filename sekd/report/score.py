"""The score of a file of predictions as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sekd.analysis.breakdown import NodeAccuracy, SubtreeMetrics
from sekd.analysis.comparison import Agreement, PairedComparison
from sekd.analysis.estimates import Difference
from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS
from sekd.analysis.scoring.scorecard import Scorecard
from sekd.data.taxonomy import Taxonomy
from sekd.report.table import Column, Table, Value, count_groups
from sekd.report.tables import PART_METRICS

_NUM_SHOWN = 10
_CONDITIONAL = [metric for metric in LEVEL_METRICS if metric.needs_parent]
_TITLES = {metric.key: metric.title for metric in PATH_METRICS}
_METRIC_ORDER = ("hca", "leaf_accuracy", *PART_METRICS, "parse_failure_rate")


def score_tables(cards: Sequence[Scorecard], taxonomy: Taxonomy) -> Iterator[Table]:
    """Make the tables for a person: every metric, and accuracy by level.

    Where there is a single cell, its subtrees and nodes follow; where there are comparisons, each
    of them.
    """
    ranks = {node.depth: node.rank for node in reversed(list(taxonomy.nodes))}
    yield _metrics_table(cards)
    yield _by_level_table(cards, ranks)
    if len(cards) == 1:
        yield _weakest_subtrees_table(cards[0].subtrees, ranks)
        yield _wrong_answers_table(cards[0].nodes, ranks)
    for card in cards:
        if card.comparison is not None:
            yield _comparison_table(", ".join(card.names.values()), card.comparison, ranks)


def _metrics_table(cards: Sequence[Scorecard]) -> Table:
    names = list(cards[0].names)
    metrics = [
        Column(metric, _TITLES[metric], has_interval=metric == "hca", digits=2)
        for metric in _METRIC_ORDER
    ]
    rows = [
        [
            *card.names.values(),
            card.metrics.rate("hca"),
            card.metrics.num_samples,
            *(card.metrics.rate(metric) for metric in _METRIC_ORDER[1:]),
        ]
        for card in cards
    ]
    return Table(
        name="metrics",
        title="Percent",
        columns=[
            *(Column(name, name) for name in names),
            metrics[0],
            Column("num_samples", "samples"),
            *metrics[1:],
        ],
        num_names=len(names),
        rows=rows,
        groups=[len(rows)],
    )


def _by_level_table(cards: Sequence[Scorecard], ranks: Mapping[int, str]) -> Table:
    names = [*cards[0].names, "level"]
    rows: list[list[Value]] = []
    for card in cards:
        for level, accuracy in card.metrics.levels["level_accuracy"].items():
            conditional = [card.metrics.levels[metric.key].get(level) for metric in _CONDITIONAL]
            rows.append([*card.names.values(), ranks[level], accuracy, *conditional])
    return Table(
        name="levels",
        title="By level, in percent",
        columns=[
            *(Column(name, name) for name in names),
            Column("level_accuracy", "accuracy", has_interval=True, digits=2),
            *(Column(metric.key, metric.title, digits=2) for metric in _CONDITIONAL),
        ],
        num_names=len(names),
        rows=rows,
        groups=count_groups(tuple(row[: len(names) - 1]) for row in rows),
    )


def _weakest_subtrees_table(subtrees: Sequence[SubtreeMetrics], ranks: Mapping[int, str]) -> Table:
    def hca(subtree: SubtreeMetrics) -> float:
        rate = subtree.metrics.rate("hca")
        assert rate is not None  # every sample counts
        return rate.value

    weakest = sorted(subtrees, key=hca)[:_NUM_SHOWN]
    return Table(
        name="subtrees",
        title=f"The {len(weakest)} weakest of {len(subtrees):,} subtrees, in percent",
        columns=[
            Column("name", ranks[weakest[0].root.level]),
            Column("hca", _TITLES["hca"], has_interval=True, digits=2),
            Column("num_samples", "samples"),
            Column("leaf_accuracy", _TITLES["leaf_accuracy"], digits=2),
        ],
        num_names=1,
        rows=[
            [
                subtree.root.name,
                subtree.metrics.rate("hca"),
                subtree.metrics.num_samples,
                subtree.metrics.rate("leaf_accuracy"),
            ]
            for subtree in weakest
        ],
        groups=[len(weakest)],
    )


def _wrong_answers_table(nodes: Sequence[NodeAccuracy], ranks: Mapping[int, str]) -> Table:
    answers = [(node, answer) for node in nodes for answer in node.confused_with]
    answers.sort(key=lambda pair: -pair[1].count)
    rows: list[list[Value]] = [
        [
            ranks[node.node.level],
            node.node.name,
            answer.name,
            answer.count,
            100 * answer.count / node.num_samples,
        ]
        for node, answer in answers[:_NUM_SHOWN]
    ]
    return Table(
        name="wrong_answers",
        title=f"The {len(rows)} most frequent wrong answers",
        columns=[
            Column("level", "level"),
            Column("truth", "truth"),
            Column("prediction", "taken for"),
            Column("count", "times"),
            Column("share", "% of the truth's"),
        ],
        num_names=3,
        rows=rows,
        groups=[len(rows)],
    )


def _comparison_table(cell: str, comparison: PairedComparison, ranks: Mapping[int, str]) -> Table:
    of_cell = f", {cell}" if cell else ""
    agreements = {"hca": comparison.whole_path, "leaf_accuracy": comparison.leaf}
    rows = [
        _comparison_row(
            _TITLES[metric], comparison.differences.rate(metric), agreements.get(metric)
        )
        for metric in _METRIC_ORDER
    ]
    rows += [
        _comparison_row(ranks[level], difference, comparison.levels[level])
        for level, difference in comparison.differences.levels["level_accuracy"].items()
    ]
    return Table(
        name="comparison",
        title=f"PREDICTIONS minus OTHER{of_cell}, over the same {comparison.num_samples:,} "
        "samples; p is not corrected for the number of comparisons",
        columns=[
            Column("metric", "metric"),
            Column("difference", "difference", has_interval=True, digits=2, is_signed=True),
            Column("a", "here", digits=2),
            Column("b", "other", digits=2),
            Column("num_only_a", "right here only"),
            Column("num_only_b", "there only"),
            Column("mcnemar_p", "McNemar p", digits=3, is_significant=True),
        ],
        num_names=1,
        rows=rows,
        groups=[len(rows)],
    )


def _comparison_row(
    title: str, difference: Difference | None, agreement: Agreement | None
) -> list[Value]:
    values: list[Value] = [None, None, None]
    if difference is not None:
        values = [difference, difference.a, difference.b]
    counts: list[Value] = [None, None, None]
    if agreement is not None:
        counts = [agreement.only_a, agreement.only_b, agreement.mcnemar.p_value]
    return [title, *values, *counts]
