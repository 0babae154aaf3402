"""Samples: an image, an id, and the leaf it belongs to where that is known.

A folder or a table that is wrong as a whole is a ``ConfigError`` before anything runs. A single
image that is wrong (missing, truncated) is a ``SampleError`` when that sample is read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sekd.config import DatasetSpec
from sekd.config.dataset import FOLDERS
from sekd.data.classes import Choices, MatchedClasses, MatchedRows
from sekd.data.image_refs import ImageRef
from sekd.data.labels import LabelTable
from sekd.data.questions import Question, given_questions, labelled_questions
from sekd.data.similar import SimilarNodes
from sekd.data.sources import files_of, source_of
from sekd.data.sources.base import Source
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, SampleError
from sekd.io.columns import encode_column
from sekd.io.faults import StorageError, retry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        id: unique in its dataset: the image's path as the source names it, or a column's value.
        image: where the image is, which may turn out to be missing when it is read.
        leaf: the right leaf, ``None`` without a label.
        choices: option names per level below the root, where a benchmark's row brings its own.
    """

    id: str
    image: ImageRef
    leaf: Node | None
    choices: Choices | None = None


_SAMPLES_PER_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """Samples in a fixed order, stored as columns: an object for each would take ten times as much.

    Attributes:
        root: where relative paths of images start.
        ids: texts.
        images: texts that :meth:`ImageRef.parse` reads; paths are relative to ``root`` or absolute.
        leaves: ids of nodes, null without a label.
        choices: as in :class:`Sample`; ``None`` if no sample brings its own options.
    """

    taxonomy: Taxonomy
    root: Path
    ids: pa.ChunkedArray
    images: pa.ChunkedArray
    leaves: pa.ChunkedArray
    choices: Sequence[Choices | None] | None

    @classmethod
    def gather(cls, chunks: Iterable[MatchedRows], taxonomy: Taxonomy, root: Path) -> Samples:
        """Gather all rows of a source, after their classes were matched."""
        node_ids = pa.array([node.id for node in taxonomy.nodes])
        index_of = {node.id: index for index, node in enumerate(taxonomy.nodes)}
        ids, images, leaves = [], [], []
        choices: list[Choices | None] = []
        for rows in chunks:
            chunk_ids = pa.array(rows.ids, pa.string())
            ids.append(chunk_ids)
            images.append(chunk_ids if rows.images is None else pa.array(rows.images, pa.string()))
            indices = [None if leaf is None else index_of[leaf.id] for leaf in rows.leaves]
            leaves.append(pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), node_ids))
            choices += [None] * len(rows.ids) if rows.choices is None else rows.choices
        return cls(
            taxonomy,
            root,
            pa.chunked_array(ids, pa.string()),
            pa.chunked_array(images, pa.string()),
            pa.chunked_array(leaves, pa.dictionary(pa.int32(), pa.string())),
            choices if any(choices) else None,
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
                choices=None if self.choices is None else self.choices[index],
            )
        leaf = self.leaves[index].as_py()
        return Sample(
            self.ids[index].as_py(),
            ImageRef.parse(self.images[index].as_py(), self.root),
            None if leaf is None else self.taxonomy[leaf],
            None if self.choices is None else self.choices[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        for chunk in self.chunks(_SAMPLES_PER_CHUNK):
            yield from chunk._iterate_at_once()

    def chunks(self, size: int) -> Iterator[Samples]:
        """Yield the samples in parts of this size; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """Return the samples at some positions, in the order of ``rows``."""
        return replace(
            self,
            ids=self.ids.take(pa.array(rows)),
            images=self.images.take(pa.array(rows)),
            leaves=self.leaves.take(pa.array(rows)),
            choices=None if self.choices is None else [self.choices[row] for row in rows.tolist()],
        )

    def without_labels(self) -> Samples:
        """Return the same samples without labels and options of their own."""
        kind = pa.dictionary(pa.int32(), pa.string())
        leaves = pa.chunked_array([pa.nulls(len(self), pa.string()).cast(kind)], kind)
        return replace(self, leaves=leaves, choices=None)

    def leaf_numbers(self) -> NDArray[np.int64]:
        """Return the position of each sample's leaf among the taxonomy's nodes; -1 for none."""
        codes, leaves = encode_column(self.leaves)
        number_of = {node.id: number for number, node in enumerate(self.taxonomy.nodes)}
        numbers = [number_of[leaf] for leaf in leaves.to_pylist()]
        return np.array([*numbers, -1], dtype=np.int64)[codes]

    def named(self, ids: Sequence[str]) -> list[Sample]:
        """Return the samples of these ids, in the order of the ids.

        Raises:
            LookupError: if there is no sample of an id.
        """
        by_id = {sample.id: sample for sample in self.any_named(ids)}
        return [by_id[sample_id] for sample_id in ids]

    def any_named(self, ids: Iterable[str]) -> list[Sample]:
        """Return the samples that have one of these ids, in the order of the dataset."""
        is_named = pc.is_in(self.ids, pa.array(list(ids), pa.string()))
        return list(self.take(np.flatnonzero(is_named.to_numpy())))

    def _iterate_at_once(self) -> Iterator[Sample]:
        """Iterate over all samples after turning the whole columns into Python values."""
        choices = self.choices or [None] * len(self)
        columns = (column.to_pylist() for column in (self.ids, self.images, self.leaves))
        for sample_id, image, leaf, options in zip(*columns, choices, strict=True):
            node = None if leaf is None else self.taxonomy[leaf]
            yield Sample(sample_id, ImageRef.parse(image, self.root), node, options)


@dataclass(frozen=True)
class Dataset:
    """A dataset of the config: its taxonomy and its samples, in a fixed order.

    Attributes:
        similar: the ranks of ``distractors: similar``, which a stage computes with a model.
        has_model_labels: the labels are those of a descent of this run, and no truth is known.
    """

    name: str
    spec: DatasetSpec
    taxonomy: Taxonomy
    samples: Samples
    similar: SimilarNodes | None = None
    has_model_labels: bool = False

    @classmethod
    def load(cls, name: str, spec: DatasetSpec) -> Dataset:
        """Read taxonomy, samples, and labels of a table of their own.

        Images are not opened, except to compare their content with that of such a table.

        Raises:
            ConfigError: naming the file and the place of what is wrong.
        """
        taxonomy = load_taxonomy(spec)
        samples = load_samples(spec, taxonomy)
        if spec.labels is not None:
            samples = LabelTable.read(spec.labels).apply(samples, name, spec.min_confidence)
        return cls(name, spec, taxonomy, samples)

    def without_quiz(self) -> Dataset:
        """Return the dataset with ``options: children``, so that no questions are made."""
        spec = self.spec.model_copy(update={"options": "children"})
        return replace(self, spec=spec, has_model_labels=False)

    def with_model_labels(self, labels: LabelTable) -> Dataset:
        """Return the samples that a descent gave a label, with this label.

        Raises:
            ConfigError: if no sample is left.
        """
        samples = labels.apply(self.samples, self.name, self.spec.min_confidence)
        return replace(self, samples=samples, has_model_labels=True)

    def first(self, num_samples: int | None) -> Dataset:
        """Return the same dataset with its first samples; ``None`` takes all."""
        return replace(self, samples=self.samples[:num_samples])

    def draw(self, num_samples: int, seed: int) -> Dataset:
        """Return the same dataset with some of its samples, drawn evenly from all leaves.

        The samples are sorted by leaf, in the taxonomy's order and in a random order within a leaf,
        and every n-th is taken from a random start on (systematic sampling). So each leaf, and each
        node above it, has its share of the draw but for one sample, and every sample has the same
        chance. Samples without a label count as one more leaf. The order of the dataset stays.

        Args:
            num_samples: all are returned where there are no more than these.
            seed: the same seed draws the same samples of the same dataset.
        """
        if num_samples >= len(self.samples):
            return self
        rng = random.Random(seed)  # Python promises that its numbers stay the same
        noise = np.array([rng.random() for _ in range(len(self.samples))])
        order = np.lexsort((noise, self.samples.leaf_numbers()))
        step = len(order) / num_samples
        positions = ((np.arange(num_samples) + rng.random()) * step).astype(np.int64)
        return replace(self, samples=self.samples.take(np.sort(order[positions])))


def load_taxonomy(spec: DatasetSpec) -> Taxonomy:
    """Read the taxonomy of a dataset: its file, or what the files of its layout hold.

    Raises:
        ConfigError: naming the file and the place of what is wrong.
        StorageError: if storage does not answer.
    """
    return _read_again(lambda: _read_taxonomy(spec), spec)


def load_samples(spec: DatasetSpec, taxonomy: Taxonomy) -> Samples:
    """Read the samples of a dataset, in the order that its layout defines.

    Raises:
        ConfigError: naming the file and the place of what is wrong; also if classes match no leaf,
            there is no sample, or two have one id.
        StorageError: if storage does not answer.
    """
    return _read_again(lambda: _read_samples(spec, taxonomy), spec)


def _read_again(read: Callable[[], T], spec: DatasetSpec) -> T:
    """Read from the start again if a passing fault of storage ended the reading."""
    try:
        return retry(read, files_of(spec))
    except StorageError as error:
        if isinstance(error.__cause__, ConfigError) and error.kind == "blocked":
            raise error.__cause__ from None  # it names the file
        raise


def _read_taxonomy(spec: DatasetSpec) -> Taxonomy:
    if spec.taxonomy is None or spec.taxonomy == FOLDERS:
        source = source_of(spec)
        if spec.taxonomy == FOLDERS and not source.labels_are_paths:
            raise ConfigError(f"{files_of(spec)}: taxonomy: folders is for the layout folder")
        return Taxonomy.from_leaves(source.leaf_paths(spec), str(files_of(spec)), spec.leaf_names)
    return Taxonomy.load(spec.taxonomy, level_names=spec.level_names, leaf_names=spec.leaf_names)


def _read_samples(spec: DatasetSpec, taxonomy: Taxonomy) -> Samples:
    source = source_of(spec)
    classes = MatchedClasses(spec, taxonomy)
    samples = Samples.gather(classes.rows(), taxonomy, source.image_root(spec))
    classes.check()
    if not samples:
        raise ConfigError(f"{files_of(spec)}: no image in it")
    if _may_repeat(samples.ids):
        _refuse_repeated_ids(source, spec)
    return samples


def _may_repeat(ids: pa.ChunkedArray) -> bool:
    """Tell whether two ids have one hash. A table of the ids themselves would take more memory."""
    hashes = np.fromiter((hash(i) for chunk in ids.chunks for i in chunk.to_pylist()), np.int64)
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


def _refuse_repeated_ids(source: Source, spec: DatasetSpec) -> None:
    """Read the source again, and raise a ConfigError at the first id that it gives twice."""
    number_of: dict[str, int] = {}
    for rows in source.read_rows(spec):
        for sample_id, number in zip(rows.ids, rows.numbers, strict=True):
            if sample_id in number_of:
                raise ConfigError(
                    f"{source.place(spec, number)}: the sample id {sample_id!r} is already that of "
                    f"{source.place(spec, number_of[sample_id])}; name an id_column without "
                    "duplicates"
                )
            number_of[sample_id] = number


def questions_of(dataset: Dataset, sample: Sample) -> list[Question] | None:
    """Return a sample's questions, level by level; ``None`` where they follow from a descent.

    Raises:
        SampleError: if options are to be drawn around a label that the sample does not have, or its
            own options do not fit the taxonomy.
    """
    spec = dataset.spec
    if spec.options == "children" and not dataset.has_model_labels:
        return None
    if sample.choices is not None and sample.leaf is not None:
        return given_questions(dataset.taxonomy, sample.leaf, sample.choices)
    if spec.distractors == "given":
        raise SampleError(f"{sample.id} lacks a label or options, which `distractors: given` needs")
    if sample.leaf is None:
        raise SampleError(
            f"{sample.id} has no label to draw {spec.distractors} options around; "
            "`options: children` needs none"
        )
    similar = dataset.similar if spec.distractors == "similar" else None
    return labelled_questions(
        dataset.taxonomy,
        sample.leaf,
        sample_id=sample.id,
        distractors=spec.distractors,
        similar=similar,
        num_options=spec.num_options,
        seed=spec.seed,
    )
