"""Write the page that shows predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sekd import __version__
from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import PathPrediction
from sekd.data.samples import Samples
from sekd.io.files import write_atomically
from sekd.report.predicted.page import PageNotes, render_predictions
from sekd.stages.predict.setup import PredictorSpec


def write_page(
    path: Path,
    spec: PredictorSpec,
    samples: Samples,
    predictions: Iterable[PathPrediction],
    inputs: Sequence[str],
    *,
    min_confidence: float,
    table: Path | None,
) -> None:
    """Write the page; only the images that it shows are read again.

    Args:
        predictions: of the samples; these are gone through twice.
        inputs: what a person named, such as a folder.
        min_confidence: the least probability of a path that is trusted, 0 to 1.
        table: the file that holds all rows, if there is one.

    Raises:
        StorageError: if it cannot be written.
    """

    def find_images(names: Sequence[str]) -> Mapping[str, ImageRef]:
        return {sample.id: sample.image for sample in samples.any_named(names)}

    notes = PageNotes(
        title=inputs[0] if len(inputs) == 1 else f"{inputs[0]} and {len(inputs) - 1:,} more",
        min_confidence=min_confidence,
        restriction=_restriction_of(spec),
        facts=_facts_of(spec, min_confidence),
        table=str(table or ""),
    )
    page = render_predictions(predictions, find_images, notes)
    # A path of the file system may hold bytes that are no text.
    write_atomically(path, page.encode("utf-8", "backslashreplace"))


def _restriction_of(spec: PredictorSpec) -> str | None:
    restriction = spec.rules.restriction
    if restriction is None:
        return None
    return f"{len(restriction.leaf_ids):,} of {len(spec.taxonomy.leaf_ids):,} leaves"


def _facts_of(spec: PredictorSpec, min_confidence: float) -> dict[str, str]:
    asked = "level by level, among the children" if spec.is_stepwise else "in a single pass"
    facts = {
        "Model": spec.model.path,
        "Adapter": str(spec.adapter or "none"),
        "Taxonomy": f"{spec.taxonomy.source}, {len(spec.taxonomy.leaf_ids):,} leaves",
        "Asked": asked,
        "Engine": spec.evaluate.engine,
        "Trusted from": f"a probability of {min_confidence:g}",
    }
    if spec.rules.last_rank is not None:
        facts["Down to"] = spec.rules.last_rank
    return facts | {"sekd": __version__}
