"""How the classes of a dataset match its taxonomy, and the alias file for what is left."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.config import DatasetSpec
from sekd.data.class_matching import UNMATCHED, ClassMatch, read_aliases
from sekd.data.classes import MatchedClasses
from sekd.data.samples import load_taxonomy
from sekd.data.sources import source_of
from sekd.io.files import write_atomically


@dataclass(frozen=True)
class MatchReport:
    """The matches of all classes of a dataset with the leaves of its taxonomy.

    Attributes:
        matches: of all classes, in the order in which they occur.
        candidates: unmatched class -> labels of the nearest leaves.
        num_images: class -> number of its images.
        empty_classes: classes that the dataset names but has no image of.
        leaves_without_class: labels of the leaves that no class matches.
    """

    taxonomy: str
    matches: Sequence[ClassMatch]
    candidates: Mapping[str, Sequence[str]]
    num_images: Counter[str]
    empty_classes: Sequence[str]
    leaves_without_class: Sequence[str]

    @property
    def unmatched(self) -> list[ClassMatch]:
        """The classes without a leaf that the alias file does not leave out."""
        return [match for match in self.matches if match.step == UNMATCHED]

    @property
    def num_classes_by_step(self) -> Counter[str]:
        """Step -> number of classes that it matched, "unmatched" among them."""
        return Counter(match.step for match in self.matches)

    def to_json(self) -> dict[str, Any]:
        """Return everything as values of JSON."""
        return {
            "taxonomy": self.taxonomy,
            "num_classes": len(self.matches),
            "num_classes_by_step": dict(self.num_classes_by_step),
            "classes": [
                {
                    "class": match.label,
                    "leaf": match.leaf.id if match.leaf else None,
                    "step": match.step,
                    "num_images": self.num_images[match.label],
                    "candidates": list(self.candidates.get(match.label, ())),
                }
                for match in self.matches
            ],
            "classes_without_images": list(self.empty_classes),
            "leaves_without_class": list(self.leaves_without_class),
        }

    def write_aliases(self, path: Path) -> None:
        """Write the alias file: what it says already, and the classes that are still unmatched.

        A person fills the column ``leaf``: a label, a node id, or ``-`` to leave the class out.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["class", "leaf", "candidates"])
        for label, leaf in (read_aliases(path) if path.is_file() else {}).items():
            writer.writerow([label, leaf, ""])
        for match in self.unmatched:
            writer.writerow([match.label, "", " | ".join(self.candidates.get(match.label, ()))])
        write_atomically(path, buffer.getvalue())


def report_matches(spec: DatasetSpec) -> MatchReport:
    """Match the classes of a dataset with the leaves of its taxonomy; no image is opened.

    An alias file that does not exist yet counts as empty.

    Raises:
        ConfigError: if the taxonomy or the files of the dataset are wrong.
    """
    if spec.aliases is not None and not spec.aliases.is_file():
        spec = spec.model_copy(update={"aliases": None})
    taxonomy = load_taxonomy(spec)
    classes = MatchedClasses(spec, taxonomy)
    for _ in classes.rows():
        pass
    matched = {match.leaf.id for match in classes.matches if match.leaf}
    named = source_of(spec).class_names(spec)
    return MatchReport(
        taxonomy.source,
        classes.matches,
        {match.label: near for match in classes.matches if (near := classes.nearest(match))},
        classes.num_images,
        [label for label in named if label not in classes.num_images],
        [node.name for node in taxonomy.nodes if node.id in taxonomy.leaf_ids - matched],
    )
