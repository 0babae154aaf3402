"""Count predicted paths: how sure they are at each rank, and how many images each node has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from markupsafe import Markup

from sekd.data.path_predictions import PathPrediction, PredictedLevel
from sekd.report.drawings.bars import Segment, draw_bars
from sekd.report.formats import format_share
from sekd.report.table import Column, Table, Value, count_groups

NUM_NODES = 300
"""Number of rows of the table of nodes."""

_BANDS = ((0.9, "step-1"), (0.7, "step-2"), (0.5, "step-3"), (0.3, "step-4"), (0.0, "step-6"))
"""Least probability of each band, and the CSS class of its colour."""


@dataclass(frozen=True)
class Figure:
    """A figure of the first screen.

    Attributes:
        verdict: colour of the figure; these have none.
        caution: what must be known before the figure is used; empty where there is nothing.
    """

    title: str
    value: str
    unit: str
    meaning: str
    verdict: str = ""
    caution: str = ""


def make_figures(
    predictions: Sequence[PathPrediction], min_confidence: float, restriction: str | None
) -> list[Figure]:
    """Make the figures of the first screen; some are left out if no image has a path."""
    named = [each for each in predictions if each.error is None]
    num_failed = len(predictions) - len(named)
    caution = f"{num_failed:,} failed; their reasons are below" if num_failed else ""
    figures = [
        Figure(
            "Images", f"{len(predictions):,}", "", f"{len(named):,} have a path", caution=caution
        )
    ]
    if not named:
        return figures
    if min_confidence:
        trusted = sum(each.stopped is None for each in named) / len(named)
        meaning = f"their whole path has a probability of at least {min_confidence:g}"
        figures.append(Figure("Trusted to the end", format_share(trusted), "of the paths", meaning))
    figures.append(
        Figure(
            "Confidence",
            format_share(median(each.probability or 0.0 for each in named)),
            "median",
            "probability of the whole path; one half of the images is above it",
            caution=_calibration(named),
        )
    )
    outside = [each.outside for each in named if each.outside is not None]
    if restriction is not None:
        mean = format_share(fmean(outside)) if outside else "unknown"
        figures.append(Figure("Outside", mean, "mean", _outside(restriction)))
    return figures


def _calibration(named: Sequence[PathPrediction]) -> str:
    num_calibrated = sum(each.is_calibrated for each in named)
    if num_calibrated == len(named):
        return ""
    some = "" if num_calibrated == 0 else f"{len(named) - num_calibrated:,} of them are "
    return (
        f"{some}uncalibrated: it was not measured how often paths with such a probability are "
        "right (sekd calibrate)"
    )


def _outside(restriction: str) -> str:
    return (
        f"Restricted to {restriction}: the probability that the model gave to what was left out. "
        "The others were scaled up to a sum of 1."
    )


def draw_confidence(predictions: Iterable[PathPrediction]) -> Markup | None:
    """Draw, for each rank, how many paths are how probable down to it; ``None`` without paths."""
    levels: dict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        for level in prediction.levels:
            levels[level.rank].append(level.path_probability)
    if not levels:
        return None
    rows = {rank: _segments(probabilities) for rank, probabilities in levels.items()}
    return draw_bars(rows, "Share of the images by the probability of their path, for each rank")


def confidence_legend() -> Mapping[str, str]:
    """Return band -> CSS class."""
    return {_band_name(index): style for index, (_, style) in enumerate(_BANDS)}


def _segments(probabilities: Sequence[float]) -> list[Segment]:
    counts = [0] * len(_BANDS)
    for probability in probabilities:
        counts[next(i for i, (low, _) in enumerate(_BANDS) if probability >= low)] += 1
    return [
        Segment(100 * count / len(probabilities), _band_name(index), style)
        for index, (count, (_, style)) in enumerate(zip(counts, _BANDS, strict=True))
        if count
    ]


def _band_name(index: int) -> str:
    low = _BANDS[index][0]
    if index == 0:
        return f"at least {100 * low:.0f} %"
    high = 100 * _BANDS[index - 1][0]
    return f"{100 * low:.0f} to {high:.0f} %" if low else f"below {high:.0f} %"


def nodes_table(predictions: Iterable[PathPrediction]) -> Table:
    """Make the table of the nodes with the most images, rank by rank from the top down."""
    levels: dict[str, list[PredictedLevel]] = defaultdict(list)
    for prediction in predictions:
        for level in prediction.levels:
            levels[level.node].append(level)
    by_count = sorted(levels.values(), key=lambda each: (-len(each), each[0].node))
    shown = sorted(by_count[:NUM_NODES], key=lambda each: each[0].node.count("/"))
    rows: list[list[Value]] = [
        [each[0].rank, _label(each[0]), len(each), 100 * fmean(x.path_probability for x in each)]
        for each in shown
    ]
    num_left = len(levels) - len(shown)
    return Table(
        "nodes",
        "Images of each node, and the mean probability of their paths down to it, in percent",
        [
            Column("rank", "rank"),
            Column("node", "node"),
            Column("num_images", "images"),
            Column("probability", "probability", is_probability=True),
        ],
        num_names=2,
        rows=rows,
        groups=count_groups(row[0] for row in rows),
        note=f"{num_left:,} nodes with fewer images are left out." if num_left else "",
    )


def _label(level: PredictedLevel) -> str:
    return f"{level.name} ({level.common_name})" if level.common_name else level.name
