"""The page of predictions: images as thumbnails with their paths, to sort and to filter.

However many images there are, the page stays small enough for a browser: it shows
:data:`NUM_SHOWN` of them and :data:`NUM_FAILURES` failures, and says what it left out. Its figures
and tables count all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import PathPrediction, PredictedLevel
from sekd.report.html import render_template
from sekd.report.predicted.choice import choose_shown
from sekd.report.predicted.summary import (
    confidence_legend,
    draw_confidence,
    make_figures,
    nodes_table,
)
from sekd.report.thumbnails import Thumbnail, make_thumbnail

NUM_SHOWN = 500
NUM_FAILURES = 200
MAX_SIDE = 192
"""Pixels of the longer side of a thumbnail."""
MAX_BYTES = 6_000_000
"""Limit for all thumbnails together, before they are encoded as text."""
NO_RANK = "no rank"
"""Stands for the rank of a path of which nothing is trusted."""


@dataclass(frozen=True, kw_only=True)
class PageNotes:
    """What the predictions do not say themselves.

    Attributes:
        title: what was predicted, such as the name of a folder.
        min_confidence: the least probability of a path that is trusted, 0 to 1.
        restriction: what the answers were restricted to, in words; ``None`` without a restriction.
        facts: how the predictions were made: name -> value, such as the model's.
        table: name of the file that holds every row; empty if there is none.
    """

    title: str
    min_confidence: float = 0.0
    restriction: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    table: str = ""


@dataclass(frozen=True)
class NodeOption:
    """A node that images can be filtered by.

    Attributes:
        number: which one it is on this page.
        num_images: the number of images whose path leads through it, shown or not.
    """

    number: int
    label: str
    num_images: int


@dataclass(frozen=True)
class PredictionCard:
    """One image on the page.

    Attributes:
        nodes: numbers of the nodes of its path, as in :class:`NodeOption`.
        num_trusted: the number of its first levels that are trusted.
    """

    prediction: PathPrediction
    thumbnail: Thumbnail
    nodes: Sequence[int]
    num_trusted: int

    @property
    def trusted_rank(self) -> str:
        """The rank down to which the path is trusted."""
        return _trusted_rank(self.prediction)


def render_predictions(
    predictions: Sequence[PathPrediction],
    image_of: Callable[[str], ImageRef | None],
    notes: PageNotes,
) -> str:
    """Render the page; the same predictions and images give the same page.

    Args:
        image_of: gives the image that has the name :attr:`PathPrediction.image`, if it is known.
    """
    named = [each for each in predictions if each.error is None]
    failed = [each for each in predictions if each.error is not None]
    shown = choose_shown(named, NUM_SHOWN)
    numbers = {node: i for i, node in enumerate(dict.fromkeys(_nodes_of(shown)))}
    return render_template(
        "predictions.html.jinja",
        styles=("page.css", "predictions.css"),
        scripts=("sort.js", "predictions.js"),
        notes=notes,
        num_images=len(predictions),
        num_named=len(named),
        figures=make_figures(predictions, notes.min_confidence, notes.restriction),
        confidence=draw_confidence(named),
        legend=confidence_legend(),
        nodes=nodes_table(named),
        cards=_make_cards(shown, image_of, numbers),
        ranks=_count_ranks(named),
        options=_node_options(named, numbers),
        failures=failed[:NUM_FAILURES],
        num_failed=len(failed),
    )


def _make_cards(
    shown: Sequence[PathPrediction],
    image_of: Callable[[str], ImageRef | None],
    numbers: Mapping[str, int],
) -> list[PredictionCard]:
    cards, num_bytes = [], 0
    for prediction in shown:
        ref = image_of(prediction.image)
        if ref is None:
            thumbnail = Thumbnail(reason="not found")
        elif num_bytes >= MAX_BYTES:
            thumbnail = Thumbnail(reason="left out to keep the page small")
        else:
            thumbnail = make_thumbnail(ref, MAX_SIDE)
        num_bytes += thumbnail.num_bytes
        accepted = prediction.accepted
        num_trusted = 0 if accepted is None else prediction.levels.index(accepted) + 1
        nodes = [numbers[level.node] for level in prediction.levels]
        cards.append(PredictionCard(prediction, thumbnail, nodes, num_trusted))
    return cards


def _nodes_of(predictions: Sequence[PathPrediction]) -> list[str]:
    return [level.node for each in predictions for level in each.levels]


def _trusted_rank(prediction: PathPrediction) -> str:
    return NO_RANK if prediction.accepted is None else prediction.accepted.rank


def _count_ranks(named: Sequence[PathPrediction]) -> Mapping[str, int]:
    """Count the images by the rank down to which they are trusted, from the top down."""
    counts = Counter(map(_trusted_rank, named))
    depths: dict[str, int] = {NO_RANK: -1}
    for each in named:
        for depth, level in enumerate(each.levels):
            depths[level.rank] = max(depth, depths.get(level.rank, 0))
    return {rank: counts[rank] for rank in sorted(counts, key=lambda rank: depths[rank])}


def _node_options(
    named: Sequence[PathPrediction], numbers: Mapping[str, int]
) -> Mapping[str, Sequence[NodeOption]]:
    """Return rank -> its nodes on the page by name, ranks from the top down."""
    counts = Counter(_nodes_of(named))
    by_depth: dict[tuple[int, str], dict[str, PredictedLevel]] = {}
    for each in named:
        for depth, level in enumerate(each.levels):
            if level.node in numbers:
                by_depth.setdefault((depth, level.rank), {})[level.node] = level
    options: dict[str, list[NodeOption]] = {}
    for (_, rank), levels in sorted(by_depth.items()):
        for level in sorted(levels.values(), key=lambda level: (level.name, level.node)):
            option = NodeOption(numbers[level.node], level.name, counts[level.node])
            options.setdefault(rank, []).append(option)
    return options
