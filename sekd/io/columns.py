"""Turn Arrow columns into NumPy arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def encode_column(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.StringArray]:
    """Encode a column of texts as numbers.

    All chunks get one dictionary, which takes less memory than to merge them at full length.

    Returns:
        int64[R], the index of each row's text among the distinct texts, -1 for null; and these
        texts.
    """
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    else:
        column = column.dictionary_encode()
    if not column.num_chunks:
        return np.empty(0, dtype=np.int64), pa.array([], pa.string())
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks])
    codes = indices.fill_null(-1).to_numpy()
    return codes.astype(np.int64, copy=False), column.chunk(0).dictionary.cast(pa.string())


def to_texts(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """Turn a column of texts without nulls into a list, much faster than ``to_pylist`` does."""
    texts: list[str] = column.to_numpy(zero_copy_only=False).tolist()
    return texts
