"""Show counts of predicted paths: figures, how sure they are at each rank, and their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sekd.report.drawings.bars import Segment, draw_bars
from sekd.report.formats import format_share
from sekd.report.predicted.tally import BANDS, Tally
from sekd.report.table import Column, Table, Value, count_groups

NUM_NODES = 300
"""Number of rows of the table of nodes."""
_STYLES = ("step-1", "step-2", "step-3", "step-4", "step-6")
"""CSS class of the colour of each band of confidence."""


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


def make_figures(tally: Tally, min_confidence: float, restriction: str | None) -> list[Figure]:
    """Make the figures of the first screen; some are left out if no image has a path."""
    num_named, num_failed = tally.num_named, tally.num_failed
    figures = [
        Figure(
            "Images",
            f"{num_named + num_failed:,}",
            "",
            f"{num_named:,} have a path",
            caution=f"{num_failed:,} failed; their reasons are below" if num_failed else "",
        )
    ]
    if not num_named:
        return figures
    if min_confidence:
        meaning = f"their whole path has a probability of at least {min_confidence:g}"
        trusted = format_share(tally.num_trusted / num_named)
        figures.append(Figure("Trusted to the end", trusted, "of the paths", meaning))
    figures.append(
        Figure(
            "Confidence",
            format_share(float(np.median(tally.probabilities))),
            "median",
            "probability of the whole path; one half of the images is above it",
            caution=_calibration(tally),
        )
    )
    if restriction is not None:
        outside = format_share(tally.outside / num_named)
        meaning = (
            f"Restricted to {restriction}: the probability that the model gave to what was left "
            "out. The others were scaled up to a sum of 1."
        )
        figures.append(Figure("Outside", outside, "mean", meaning))
    return figures


def _calibration(tally: Tally) -> str:
    num_uncalibrated = tally.num_named - tally.num_calibrated
    if not num_uncalibrated:
        return ""
    some = f"{num_uncalibrated:,} of them are " if tally.num_calibrated else ""
    return (
        f"{some}uncalibrated: it was not measured how often paths with such a probability are "
        "right (sekd calibrate)"
    )


def draw_confidence(tally: Tally) -> Markup | None:
    """Draw, for each rank, how many paths are how probable down to it; ``None`` without paths."""
    if not tally.bands:
        return None
    rows = {rank: _segments(counts) for rank, counts in tally.bands.items()}
    return draw_bars(rows, "Share of the images by the probability of their path, for each rank")


def confidence_legend() -> Mapping[str, str]:
    """Return band -> CSS class."""
    return {_band_name(index): style for index, style in enumerate(_STYLES)}


def _segments(counts: Sequence[int]) -> list[Segment]:
    return [
        Segment(100 * count / sum(counts), _band_name(index), _STYLES[index])
        for index, count in enumerate(counts)
        if count
    ]


def _band_name(index: int) -> str:
    low = 100 * BANDS[index]
    if index == 0:
        return f"at least {low:.0f} %"
    high = 100 * BANDS[index - 1]
    return f"{low:.0f} to {high:.0f} %" if low else f"below {high:.0f} %"


def nodes_table(tally: Tally) -> Table:
    """Make the table of the nodes with the most images, rank by rank from the top down."""
    by_count = sorted(tally.nodes.values(), key=lambda node: (-node.num_images, node.level.node))
    shown = sorted(by_count[:NUM_NODES], key=lambda node: (node.depth, node.level.rank))
    rows: list[list[Value]] = [
        [node.level.rank, node.label, node.num_images, 100 * node.total / node.num_images]
        for node in shown
    ]
    num_left = len(tally.nodes) - len(shown)
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
