"""Tables of labels: what a descent leaves, and what a dataset takes in place of its own labels.

``sekd label`` writes one row for each sample, with everything that the model answered. To read
labels, three columns matter: ``sample_id``, ``label``, and ``probability`` where a model gave them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sekd.data.image_hashes import ImageHashes
from sekd.data.predictions import PATH
from sekd.data.row_schema import column, schema_of, table_of
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.io.columns import encode_column
from sekd.io.table_chunk import ABSENT
from sekd.io.tables import column_names, read_chunks, read_columns

if TYPE_CHECKING:  # samples read their labels here
    from sekd.data.samples import Samples

logger = logging.getLogger(__name__)

# Shapes: N samples.

LABELS = "labels"
"""Role of the file in a shard."""

_LEVEL = pa.struct(
    [
        pa.field("level", pa.int16(), nullable=False),
        pa.field("rank", pa.string(), nullable=False),
        pa.field("node", pa.string(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),
        pa.field("path_probability", pa.float32(), nullable=False),
        pa.field("option_mass", pa.float32()),
        pa.field("children", pa.list_(pa.string()), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class DescentLabel:
    """A model's label of one sample, a row of :data:`LABEL_SCHEMA`.

    Attributes:
        image: path of the sample's image.
        image_sha256: of the image file's bytes; empty where none was shown.
        label: node id of the last node of the most probable path.
        probability: of the whole path.
        levels: of that path, from the first level below the root: ``level``, ``rank``, ``node``,
            its ``probability`` among the ``children`` whose ``probabilities`` these are,
            ``path_probability`` down to here, and the ``option_mass`` of the letters shown, null
            where a single child was given without asking.
        paths: the most probable paths under a beam: ``node`` and ``probability``, best first.
        num_questions: the number of questions that were asked.
    """

    sample_id: str = column(pa.string())
    image: str = column(pa.string())
    image_sha256: str = column(pa.string())
    label: str = column(pa.string())
    probability: float = column(pa.float32())
    levels: Sequence[dict[str, Any]] = column(pa.list_(_LEVEL))
    paths: Sequence[dict[str, Any]] = column(pa.list_(PATH))
    num_questions: int = column(pa.int32())
    num_prompt_tokens: int = column(pa.int32())
    num_cached_tokens: int = column(pa.int32())


LABEL_SCHEMA = schema_of(DescentLabel)


def write_labels(rows: Iterable[DescentLabel], path: Path) -> None:
    """Write one shard."""
    pq.write_table(table_of(rows, LABEL_SCHEMA), path, compression="zstd")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of samples, as columns.

    Attributes:
        source: the file, for messages.
        columns: ``sample_id`` and ``label``, and ``probability`` and ``image_sha256`` where they
            are known.
    """

    source: str
    columns: pa.Table

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Read a table of any format that :mod:`sekd.io.tables` reads.

        Raises:
            ConfigError: if it cannot be read, lacks a column, or has a sample twice.
        """
        wanted = ["sample_id", "label", "probability", "image_sha256"]
        names = column_names(path)
        missing = [name for name in wanted[:2] if name not in names]
        if missing:
            raise ConfigError(
                f"{path}: no column {' and no column '.join(missing)}; a table of labels has the "
                "columns sample_id and label"
            )
        kept = [name for name in wanted if name in names]
        read = read_columns if path.suffix == ".parquet" else _read_texts
        return cls.of(read(path, kept), str(path))

    @classmethod
    def of(cls, table: pa.Table, source: str) -> LabelTable:
        """Take the columns of a table, or of the shards of a descent.

        Raises:
            ConfigError: if a sample is there twice, or a probability is no number of 0 to 1.
        """
        ids = table["sample_id"].cast(pa.string())
        position = table.column_names.index("sample_id")
        table = table.set_column(position, "sample_id", ids)
        counts = ids.value_counts()
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(repeated):
            sample_id = repeated[0]["values"].as_py()
            raise ConfigError(f"{source}: the sample {sample_id!r} is there twice")
        if "probability" in table.column_names:
            _check_probabilities(table["probability"], ids, source)
        return cls(source, table)

    def apply(self, samples: Samples, name: str, min_confidence: float) -> Samples:
        """Return the samples that have a label here, with this label in place of their own.

        A label belongs to a sample of its id and, where the table knows the image's content, of
        this content. What is left out is counted in the log.

        Args:
            name: of the dataset, for messages.
            min_confidence: lowest probability of a label.

        Raises:
            ConfigError: if a label is no node of the taxonomy, no label has a probability although
                one is asked for, or no sample is left.
        """
        rows = pc.index_in(samples.ids, self.columns["sample_id"].combine_chunks())
        rows_N = rows.fill_null(-1).to_numpy()
        has_row_N = rows_N >= 0
        is_same_N = has_row_N & self._has_same_image(samples, rows_N)
        is_sure_N = is_same_N & self._is_sure(rows_N, min_confidence)
        codes, labels = encode_column(self.columns["label"].cast(pa.string()))
        nodes = [self._node(label, samples.taxonomy) for label in labels.to_pylist()]
        is_labelled_N = is_sure_N & (np.append(codes, -1)[rows_N] >= 0)
        counts = {
            "without a row": int((~has_row_N).sum()),
            "whose image is another one now": int((has_row_N & ~is_same_N).sum()),
            f"below min_confidence {min_confidence:g}": int((is_same_N & ~is_sure_N).sum()),
            "with an empty label": int((is_sure_N & ~is_labelled_N).sum()),
        }
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
        kept = np.flatnonzero(is_labelled_N)
        place = f"data.{name}: labels of {self.source}"
        if not len(kept):
            raise ConfigError(
                f"{place}: no sample is left of {len(samples):,}: {left_out}"
                + ("" if has_row_N.any() else self._other_ids(samples))
            )
        num_unused = len(self.columns) - len(np.unique(rows_N[has_row_N]))
        logger.info(
            "%s: %d of %d samples have one%s%s",
            place,
            len(kept),
            len(samples),
            f"; left out: {left_out}" if left_out else "",
            f"; {num_unused:,} of its rows are of other samples" if num_unused else "",
        )
        leaves = pa.DictionaryArray.from_arrays(
            pa.array(codes[rows_N[kept]].astype(np.int32)),
            pa.array([node.id for node in nodes], pa.string()),
        )
        # Options that a row brings along are drawn around another label.
        taken = samples.take(kept)
        return replace(taken, leaves=pa.chunked_array([leaves]), choices=None)

    def _node(self, label: str, taxonomy: Taxonomy) -> Node:
        if label in taxonomy and label != taxonomy.root.id:
            return taxonomy[label]
        try:
            return taxonomy.leaf(label)
        except LookupError as error:
            row = self.columns["label"].cast(pa.string()).index(label).as_py()
            sample_id = self.columns["sample_id"][row].as_py()
            raise ConfigError(f"{self.source}: the sample {sample_id!r}: {error}") from error

    def _other_ids(self, samples: Samples) -> str:
        """Show an id of the table and one of the data, where none is the same."""
        if not (len(self.columns) and len(samples)):
            return ""
        ours, theirs = samples.ids[0].as_py(), self.columns["sample_id"][0].as_py()
        return f"; its ids are like {theirs!r}, and those of the images like {ours!r}"

    def _has_same_image(self, samples: Samples, rows_N: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[N]: the table does not know the image's content, or it is that of the sample."""
        if "image_sha256" not in self.columns.column_names:
            return np.ones(len(samples), dtype=bool)
        hashes = ImageHashes(samples)
        hashes.compute(lambda _: None)
        known = [*self.columns["image_sha256"].to_pylist(), None]
        return np.array(
            [
                not known[row] or known[row] == sha256
                for row, sha256 in zip(rows_N.tolist(), hashes, strict=True)
            ]
        )

    def _is_sure(self, rows_N: NDArray[np.int64], min_confidence: float) -> NDArray[np.bool_]:
        """bool[N]: the label's probability is high enough."""
        if not min_confidence:
            return np.ones(len(rows_N), dtype=bool)
        if "probability" not in self.columns.column_names:
            raise ConfigError(
                f"{self.source}: no column probability for min_confidence {min_confidence:g}; "
                "leave min_confidence out"
            )
        probability = self.columns["probability"].fill_null(0.0).to_numpy()
        return np.asarray(np.append(probability, 0.0)[rows_N] >= min_confidence)


def _read_texts(path: Path, names: Sequence[str]) -> pa.Table:
    """Read columns of a format whose cells are texts; probabilities become numbers."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for chunk in read_chunks(path):
        columns["sample_id"] += chunk.filled_texts("sample_id")
        for name in names:
            if name == "probability":
                cells = chunk.columns.get(name, [None] * len(chunk.numbers))
                places = map(chunk.place, range(len(cells)))
                columns[name] += map(_to_probability, cells, places)
            elif name != "sample_id":
                columns[name] += [text or None for text in chunk.texts(name, is_optional=True)]
    kinds = {"probability": pa.float64()}
    return pa.table(
        {name: pa.array(cells, kinds.get(name, pa.string())) for name, cells in columns.items()}
    )


def _to_probability(cell: object, place: str) -> float | None:
    if cell is None or cell is ABSENT or cell == "":
        return None
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}: the probability {cell!r} is no number of 0 to 1") from error


def _check_probabilities(column: pa.ChunkedArray, ids: pa.ChunkedArray, source: str) -> None:
    values = column.fill_null(0.0).to_numpy()
    is_wrong = ~((values >= 0) & (values <= 1 + 1e-6))
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        raise ConfigError(
            f"{source}: the probability of the sample {ids[row].as_py()!r} is {values[row]:g}; "
            "it must be a number of 0 to 1"
        )
