"""The score of a file of predictions as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from sekd.analysis.metrics import BY_LEVEL
from sekd.data.taxonomy import Taxonomy

_TITLES = {
    "hca": "HCA",
    "leaf_accuracy": "leaf",
    "por": "POR",
    "spor_prefix": "S-POR prefix",
    "spor_run": "S-POR run",
    "tor": "TOR",
    "dwpa": "DWPA",
    "tice": "TICE",
    "parse_failure_rate": "unparsed",
}
_NUM_SHOWN = 10


def score_tables(cards: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> Iterator[Table]:
    """What a person wants to see: every metric, by level, and for one cell its subtrees and nodes.

    Args:
        cards: of :meth:`Scoring.card`, with ``comparison`` where there is one.
    """
    ranks = {node.depth: node.rank for node in reversed(list(taxonomy.nodes))}
    names = [name for name, value in cards[0].items() if isinstance(value, str)]
    table = _table("Percent", names, ["samples", "HCA", "95 %", *list(_TITLES.values())[1:]])
    for card in cards:
        rates = [_rate(card[metric]) for metric in _TITLES]
        table.add_row(
            *_own(card, names),
            f"{card['num_samples']:,}",
            rates[0],
            _range(card["hca"]),
            *rates[1:],
        )
    yield table
    heads = ["accuracy", "95 %", "given parent right", "given parent wrong"]
    table = _table("By level", [*names, "level"], heads)
    for card in cards:
        for level, accuracy in card["level_accuracy"].items():
            given = [_rate(card[metric].get(level)) for metric in BY_LEVEL[1:]]
            table.add_row(
                *_own(card, names), ranks[int(level)], _rate(accuracy), _range(accuracy), *given
            )
        table.add_section()
    yield table
    if len(cards) == 1:
        yield _subtrees(cards[0]["subtrees"], ranks)
        yield _confused(cards[0]["nodes"], ranks)
    for card in cards:
        if "comparison" in card:
            cell = "".join(f", {text}" for text in _own(card, names))
            yield _comparison(cell, card["comparison"], ranks)


def _table(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def _own(card: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [escape(card[name]) for name in names]


def _rate(estimate: Mapping[str, float] | None) -> str:
    return f"{estimate['value']:.2f}" if estimate else ""


def _range(estimate: Mapping[str, float] | None) -> str:
    return f"{estimate['low']:.1f}-{estimate['high']:.1f}" if estimate else ""


def _subtrees(subtrees: Sequence[Mapping[str, Any]], ranks: Mapping[int, str]) -> Table:
    weakest = sorted(subtrees, key=lambda each: each["hca"]["value"])[:_NUM_SHOWN]
    title = f"The {len(weakest)} weakest of {len(subtrees):,} subtrees"
    table = _table(title, [ranks[weakest[0]["level"]]], ["samples", "HCA", "95 %", "leaf"])
    for each in weakest:
        hca = each["hca"]
        figures = _rate(hca), _range(hca), _rate(each["leaf_accuracy"])
        table.add_row(escape(each["name"]), f"{each['num_samples']:,}", *figures)
    return table


def _confused(nodes: Sequence[Mapping[str, Any]], ranks: Mapping[int, str]) -> Table:
    pairs = [(other["count"], node, other) for node in nodes for other in node["confused_with"]]
    pairs.sort(key=lambda pair: -pair[0])
    title = f"The {min(_NUM_SHOWN, len(pairs))} most frequent wrong answers"
    table = _table(title, ["level", "truth", "taken for"], ["times", "% of the truth's"])
    for count, node, other in pairs[:_NUM_SHOWN]:
        share = 100 * count / node["num_samples"]
        table.add_row(
            ranks[node["level"]],
            escape(node["name"]),
            escape(other["name"]),
            f"{count:,}",
            f"{share:.1f}",
        )
    return table


def _comparison(name: str, comparison: Mapping[str, Any], ranks: Mapping[int, str]) -> Table:
    differences, agreement = comparison["differences"], comparison["agreement"]
    table = _table(
        f"PREDICTIONS less OTHER{name}, over the same {comparison['num_samples']:,} samples",
        ["metric"],
        ["here", "other", "difference", "95 %", "right here only", "there only", "McNemar p"],
    )
    rows = [
        (title, differences[metric], agreement.get(metric)) for metric, title in _TITLES.items()
    ]
    rows += [
        (ranks[int(level)], difference, agreement["level_accuracy"][level])
        for level, difference in differences["level_accuracy"].items()
    ]
    for title, difference, agreed in rows:
        figures = [""] * 4
        if difference:
            figures = [
                f"{difference['a']:.2f}",
                f"{difference['b']:.2f}",
                f"{difference['value']:+.2f}",
                f"{difference['low']:+.1f} to {difference['high']:+.1f}",
            ]
        counts = [""] * 3
        if agreed:
            p_value = f"{agreed['mcnemar']['p_value']:.3g}"
            counts = [f"{agreed['num_only_a']:,}", f"{agreed['num_only_b']:,}", p_value]
        table.add_row(title, *figures, *counts)
    return table
