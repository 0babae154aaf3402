"""The classes of a dataset: every row of its source gets the leaf of its class."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

from sekd.config import DatasetSpec
from sekd.data.class_matching import (
    LEFT_OUT,
    UNMATCHED,
    ClassMatch,
    ClassMatcher,
    read_aliases,
    refuse_shared_leaves,
)
from sekd.data.sources import files_of, source_of
from sekd.data.sources.base import RowLevels, Rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

logger = logging.getLogger(__name__)

_NUM_WITH_CANDIDATES = 100
"""An error names the nearest leaves of this many classes; `sekd data match` names those of all."""

Choices = tuple[tuple[str, ...], ...]
"""Option names per level below the root."""


@dataclass(frozen=True, slots=True)
class MatchedRows:
    """Some rows of a source, as :class:`sekd.data.sources.base.Rows`, with their leaves.

    Attributes:
        leaves: ``None`` for a row without a label.
        choices: ``None`` if no row brings its own options.
    """

    ids: Sequence[str]
    images: Sequence[str] | None
    leaves: Sequence[Node | None]
    choices: Sequence[Choices | None] | None


class MatchedClasses:
    """Matches the classes of a dataset while its rows are read.

    Attributes:
        num_images: class -> number of its images.
    """

    def __init__(self, spec: DatasetSpec, taxonomy: Taxonomy) -> None:
        self._spec, self._taxonomy = spec, taxonomy
        self._source = source_of(spec)
        aliases = read_aliases(spec.aliases) if spec.aliases else {}
        other_names = self._source.class_names(spec)
        self._has_other_names = bool(other_names)
        self._matcher = ClassMatcher(
            taxonomy, other_names, aliases, labels_are_paths=self._source.labels_are_paths
        )
        self._number_of: dict[str, int] = {}
        self.num_images: Counter[str] = Counter()

    @property
    def matches(self) -> Sequence[ClassMatch]:
        """The match of each class, in the order in which the classes occur."""
        return self._matcher.matches

    def nearest(self, match: ClassMatch) -> tuple[str, ...]:
        """Return the labels of the leaves that are nearest to a class, if it is unmatched."""
        return self._matcher.nearest(match.label) if match.step == UNMATCHED else ()

    def rows(self) -> Iterator[MatchedRows]:
        """Read all rows; what becomes of those of classes without a leaf, :meth:`check` says."""
        for rows in self._source.read_rows(self._spec):
            self.num_images.update(label for label in rows.labels if label is not None)
            leaf_of: dict[str | None, Node | None] = {None: None}
            is_kept_label: dict[str | None, bool] = {None: True}
            for number, label in zip(rows.numbers, rows.labels, strict=True):
                if label not in leaf_of and label is not None:
                    self._number_of.setdefault(label, number)
                    match = self._matcher.match(label)
                    leaf_of[label] = match.leaf
                    is_kept_label[label] = match.leaf is not None or (
                        match.step == UNMATCHED and self._spec.unmatched == "no_label"
                    )
            leaves = [leaf_of[label] for label in rows.labels]
            choices = self._choices(rows, leaves)
            if all(is_kept_label.values()):
                yield MatchedRows(rows.ids, rows.images, leaves, choices)
                continue
            mask = [is_kept_label[label] for label in rows.labels]
            yield MatchedRows(
                list(compress(rows.ids, mask)),
                None if rows.images is None else list(compress(rows.images, mask)),
                list(compress(leaves, mask)),
                None if choices is None else list(compress(choices, mask)),
            )

    def check(self) -> None:
        """Say what was matched by which step, after all rows were read.

        Raises:
            ConfigError: if classes have no leaf and are not to be skipped, all of them in one
                message, or two classes have one leaf that should have one each.
        """
        files = files_of(self._spec)
        unmatched = [match for match in self.matches if match.step == UNMATCHED]
        if self._has_other_names:
            try:
                refuse_shared_leaves(self.matches)
            except ConfigError as error:
                raise ConfigError(f"{files}: {error}") from error
        if unmatched and self._spec.unmatched == "error":
            raise ConfigError(self._describe(unmatched))
        steps = Counter(match.step for match in self.matches)
        if steps.keys() - {"exact", "case"}:
            counts = ", ".join(f"{count} {step}" for step, count in steps.items())
            logger.info("%s: %d classes, matched by: %s", files, len(self.matches), counts)
        fates = {UNMATCHED: "left out", LEFT_OUT: "left out"}
        if self._spec.unmatched == "no_label":
            fates[UNMATCHED] = "taken without a label"
        for fate in dict.fromkeys(fates.values()):
            without_leaf = [match for match in self.matches if fates.get(match.step) == fate]
            if without_leaf:
                logger.warning(
                    "%s: %d images of %d classes without a leaf are %s: %s",
                    files,
                    sum(self.num_images[match.label] for match in without_leaf),
                    len(without_leaf),
                    fate,
                    ", ".join(match.label for match in without_leaf),
                )

    def _describe(self, unmatched: Sequence[ClassMatch]) -> str:
        """Describe all classes without a leaf in one line."""
        files = str(files_of(self._spec))
        described = []
        for index, match in enumerate(unmatched):
            if self._source.labels_are_paths:
                place = str(self._source.image_root(self._spec) / match.label)
            else:
                place = self._source.place(self._spec, self._number_of[match.label])
            candidates = self.nearest(match) if index < _NUM_WITH_CANDIDATES else ()
            near = " or ".join(repr(name) for name in candidates if name != match.label)
            hint = f"; did you mean {near}?" if near else ""
            described.append(f"{place}: {match.problem}{hint}")
        takes_unlabelled = self._spec.options == "children"
        way_out = "unmatched: skip leaves them out"
        if takes_unlabelled:
            way_out = "unmatched: no_label takes their images without a label"
        if len(described) == 1:
            return f"{described[0]} ({way_out})" if takes_unlabelled else described[0]
        return (
            f"{files}: {len(unmatched)} of {len(self.matches)} classes match no leaf (sekd data "
            f"match writes an alias file for them; {way_out}): " + " | ".join(described)
        )

    def _choices(
        self, rows: Rows, leaves: Sequence[Node | None]
    ) -> Sequence[Choices | None] | None:
        if rows.levels is None:
            return None
        return [
            None
            if levels is None or (leaf is None and label is not None)  # its class has no leaf
            else _check_levels(self._source.place(self._spec, number), levels, leaf, self._taxonomy)
            for number, label, levels, leaf in zip(
                rows.numbers, rows.labels, rows.levels, leaves, strict=True
            )
        ]


def _check_levels(place: str, levels: RowLevels, leaf: Node | None, taxonomy: Taxonomy) -> Choices:
    """Return the options that a row brings along, by level.

    The levels that the row names must be the leaf's path. Where they include an explicit root, its
    options are left out.
    """
    if leaf is None:
        raise ConfigError(f"{place}: options without a label")
    names, options = levels.names, dict(levels.options)
    numbers = sorted(names)
    path = [node.name for node in taxonomy.path(leaf)]
    root = taxonomy.root.name
    if root and _fold_names(names[level] for level in numbers) == _fold_names([root, *path]):
        options.pop(numbers.pop(0), None)
    if _fold_names(names[level] for level in numbers) != _fold_names(path):
        raise ConfigError(
            f"{place}: its levels are {' > '.join(names[level] for level in sorted(names))}, "
            f"but {taxonomy.source} has {' > '.join(path)}"
        )
    if sorted(options) != numbers:
        raise ConfigError(f"{place}: levels {numbers} have names, but {sorted(options)} options")
    return tuple(options[level] for level in numbers)


def _fold_names(names: Iterable[str]) -> list[str]:
    return [name.casefold() for name in names]
