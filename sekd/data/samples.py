"""Samples: an image, an id, and the leaf it belongs to where that is known.

What is wrong with a folder or a table as such is a ``ConfigError`` before anything runs. What is
wrong with one image (missing, truncated) is a ``SampleError`` when that sample's turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.config import DatasetSpec
from sekd.data.questions import Question, given_questions, labelled_questions
from sekd.data.sources.folder import find_images
from sekd.data.sources.rows import Choices, Rows
from sekd.data.sources.table import read_rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, SampleError


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        id: unique in its dataset: the image's path as the source names it, or a column's value.
        image: where it should be; whether it is there shows when it is read.
        leaf: the right leaf, ``None`` without a label.
        choices: option names per level below the root, where a benchmark's row brings its own.
    """

    id: str
    image: Path
    leaf: Node | None
    choices: Choices | None = None


_SAMPLES_AT_A_TIME = 1 << 16


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """Samples in a fixed order, kept as columns: an object for each would take ten times as much.

    Attributes:
        ids, images: text, as in :class:`~sekd.data.sources.rows.Rows`.
        leaves: ids of nodes, null without a label.
        root: where relative paths of images start.
    """

    taxonomy: Taxonomy
    root: Path
    ids: pa.ChunkedArray
    images: pa.ChunkedArray
    leaves: pa.ChunkedArray
    choices: Sequence[Choices | None] | None

    @classmethod
    def gather(cls, rows: Iterable[Rows], taxonomy: Taxonomy, root: Path) -> Samples:
        """All rows of a source."""
        nodes = pa.array([node.id for node in taxonomy.nodes])
        index_of = {node.id: index for index, node in enumerate(taxonomy.nodes)}
        ids, images, leaves, choices = [], [], [], []
        for some in rows:
            ids.append(pa.array(some.ids, pa.string()))
            is_id = some.images is some.ids
            images.append(ids[-1] if is_id else pa.array(some.images, pa.string()))
            indices = [leaf and index_of[leaf.id] for leaf in some.leaves]
            leaves.append(pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), nodes))
            choices.append(some.choices)
        return cls(
            taxonomy,
            root,
            pa.chunked_array(ids, pa.string()),
            pa.chunked_array(images, pa.string()),
            pa.chunked_array(leaves, pa.dictionary(pa.int32(), pa.string())),
            [each for some in choices for each in some or ()] if any(choices) else None,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return replace(
                self,
                ids=self.ids[index],
                images=self.images[index],
                leaves=self.leaves[index],
                choices=self.choices and self.choices[index],
            )
        leaf = self.leaves[index].as_py()
        return Sample(
            self.ids[index].as_py(),
            self.root / self.images[index].as_py(),
            None if leaf is None else self.taxonomy[leaf],
            self.choices[index] if self.choices else None,
        )

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _SAMPLES_AT_A_TIME):
            yield from self[start : start + _SAMPLES_AT_A_TIME]._few()

    def named(self, ids: Sequence[str]) -> list[Sample]:
        """The samples of these ids.

        Raises:
            LookupError: if one is not there.
        """
        by_id = {sample.id: sample for sample in self.any_named(ids)}
        return [by_id[sample_id] for sample_id in ids]

    def any_named(self, ids: Iterable[str]) -> list[Sample]:
        """Those of these ids that are there, in the order of the dataset."""
        wanted = pa.array(list(ids), pa.string())
        rows = np.flatnonzero(pc.is_in(self.ids, wanted).to_numpy())
        return [self[row] for row in rows.tolist()]

    def _few(self) -> Iterator[Sample]:
        choices = self.choices or [None] * len(self)
        columns = (column.to_pylist() for column in (self.ids, self.images, self.leaves))
        for sample_id, image, leaf, options in zip(*columns, choices, strict=True):
            node = None if leaf is None else self.taxonomy[leaf]
            yield Sample(sample_id, self.root / image, node, options)


@dataclass(frozen=True)
class Dataset:
    """A dataset of the config: its taxonomy and its samples, in a fixed order."""

    name: str
    spec: DatasetSpec
    taxonomy: Taxonomy
    samples: Samples

    @classmethod
    def load(cls, name: str, spec: DatasetSpec) -> Dataset:
        """Read taxonomy and samples; images are not opened.

        Raises:
            ConfigError: naming the file and the place of what is wrong.
        """
        taxonomy = Taxonomy.load(spec.taxonomy, level_names=spec.level_names)
        return cls(name, spec, taxonomy, load_samples(spec, taxonomy))

    def first(self, num_samples: int) -> Dataset:
        """The same dataset, cut to its first samples."""
        return replace(self, samples=self.samples[:num_samples])


def load_samples(spec: DatasetSpec, taxonomy: Taxonomy) -> Samples:
    """Samples of a folder (in the order of their ids) or a table (in the order of its rows).

    Raises:
        ConfigError: naming the file and the place of what is wrong; also if there is no sample, or
            two have one id.
    """
    if spec.images is not None:
        samples = Samples.gather([find_images(spec.images, taxonomy)], taxonomy, spec.images)
    else:
        assert spec.table is not None  # a DatasetSpec has exactly one of the two
        rows = read_rows(spec.table, spec, taxonomy)
        samples = Samples.gather(rows, taxonomy, spec.image_root or spec.table.parent)
        if _may_repeat(samples.ids):
            _refuse_duplicates(spec.table, read_rows(spec.table, spec, taxonomy))
    if not samples:
        raise ConfigError(f"{spec.images or spec.table}: no image in it")
    return samples


def _may_repeat(ids: pa.ChunkedArray) -> bool:
    """Whether two ids have one hash; a table of the ids themselves would be the largest of all."""
    hashes = np.fromiter((hash(i) for chunk in ids.chunks for i in chunk.to_pylist()), np.int64)
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


def _refuse_duplicates(table: Path, rows: Iterable[Rows]) -> None:
    unit = "row" if table.suffix == ".parquet" else "line"
    seen_at: dict[str, str] = {}
    for some in rows:
        for sample_id, number in zip(some.ids, some.numbers, strict=True):
            place = f"{table}, {unit} {number}"
            if sample_id in seen_at:
                raise ConfigError(
                    f"{place}: the sample id {sample_id!r} is already that of "
                    f"{seen_at[sample_id]}; name an id_column without duplicates"
                )
            seen_at[sample_id] = place


def questions_of(dataset: Dataset, sample: Sample) -> list[Question] | None:
    """A sample's questions, level by level; ``None`` where they follow from the answers.

    Raises:
        SampleError: if options are to be drawn around a label that the sample does not have, or its
            own options do not fit the taxonomy.
    """
    spec = dataset.spec
    if sample.choices is not None and sample.leaf is not None:
        return given_questions(dataset.taxonomy, sample.leaf, sample.choices)
    if spec.distractors == "walk":
        return None
    if sample.leaf is None:
        raise SampleError(
            f"{sample.id} has no label to draw {spec.distractors} options around; "
            "`distractors: walk` needs none"
        )
    return labelled_questions(
        dataset.taxonomy,
        sample.leaf,
        sample_id=sample.id,
        distractors=spec.distractors,
        num_options=spec.num_options,
        seed=spec.seed,
    )
