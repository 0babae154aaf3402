"""The page of predictions: images as thumbnails with their paths, to sort and to filter.

However many images there are, the page stays small enough for a browser: it shows
:data:`NUM_SHOWN` of them and :data:`NUM_FAILURES` failures, and says what it left out. Its figures
and tables count all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import PathPrediction
from sekd.report.html import render_template
from sekd.report.predicted.choice import choose_shown
from sekd.report.predicted.summary import (
    confidence_legend,
    draw_confidence,
    make_figures,
    nodes_table,
)
from sekd.report.predicted.tally import Tally, trusted_rank
from sekd.report.thumbnails import Thumbnail, make_thumbnail

NUM_SHOWN = 500
NUM_FAILURES = 200
MAX_SIDE = 192
"""Pixels of the longer side of a thumbnail."""
MAX_BYTES = 6_000_000
"""Limit for all thumbnails together, before they are encoded as text."""


@dataclass(frozen=True, kw_only=True)
class PageNotes:
    """Facts about the predictions that the page shows beside them.

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
        return trusted_rank(self.prediction)


def render_predictions(
    predictions: Iterable[PathPrediction],
    find_images: Callable[[Sequence[str]], Mapping[str, ImageRef]],
    notes: PageNotes,
) -> str:
    """Render the page; the same predictions and images give the same page.

    Args:
        predictions: these are gone through twice, to count them and to take those that are shown,
            so that not all of them have to be in memory.
        find_images: gives, to some names (:attr:`PathPrediction.image`), the images that are known.
    """

    def accepted() -> Iterator[PathPrediction]:
        return (each.accept(notes.min_confidence) for each in predictions)

    tally = Tally.of(accepted(), NUM_FAILURES)
    positions = choose_shown(tally.leaves, tally.probabilities, NUM_SHOWN)
    shown = _take(accepted(), positions)
    on_page = dict.fromkeys(level.node for each in shown for level in each.levels)
    numbers = {node: number for number, node in enumerate(on_page)}
    return render_template(
        "predictions.html.jinja",
        styles=("page.css", "predictions.css"),
        scripts=("sort.js", "predictions.js"),
        notes=notes,
        num_images=tally.num_named + tally.num_failed,
        num_named=tally.num_named,
        figures=make_figures(tally, notes.min_confidence, notes.restriction),
        confidence=draw_confidence(tally),
        legend=confidence_legend(),
        nodes=nodes_table(tally),
        cards=_make_cards(shown, find_images([each.image for each in shown]), numbers),
        ranks={rank: tally.ranks[rank] for rank in sorted(tally.ranks, key=tally.rank_depth)},
        options=_node_options(tally, numbers),
        failures=tally.failures,
        num_failed=tally.num_failed,
    )


def _take(predictions: Iterable[PathPrediction], positions: Sequence[int]) -> list[PathPrediction]:
    """Take the predictions at these positions, counted without those that failed."""
    named = (each for each in predictions if each.error is None)
    wanted = set(positions)
    taken = {number: each for number, each in enumerate(named) if number in wanted}
    return [taken[position] for position in positions]


def _make_cards(
    shown: Sequence[PathPrediction],
    images: Mapping[str, ImageRef],
    numbers: Mapping[str, int],
) -> list[PredictionCard]:
    cards, num_bytes = [], 0
    for prediction in shown:
        ref = images.get(prediction.image)
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


def _node_options(tally: Tally, numbers: Mapping[str, int]) -> Mapping[str, Sequence[NodeOption]]:
    """Return rank -> its nodes on the page by name, ranks from the top down."""
    counts = [node for id_, node in tally.nodes.items() if id_ in numbers]
    options: dict[str, list[NodeOption]] = {}
    for node in sorted(counts, key=lambda node: (node.depth, node.level.rank, node.label)):
        option = NodeOption(numbers[node.level.node], node.label, node.num_images)
        options.setdefault(node.level.rank, []).append(option)
    return options
