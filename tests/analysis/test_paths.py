"""Rows to paths: joined by sample and level, ragged, and refused where that is impossible."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sekd.analysis.paths import NOT_PARSED, UNKNOWN, NodeTable, Paths, paths_of
from sekd.data.taxonomy import Taxonomy
from sekd.io.columns import encode_column

TREE = Taxonomy.from_paths(
    {"a": ["r", "x", "a"], "b": ["r", "x", "b"], "c": ["r", "y", "c"], "z": ["r", "z"]}
)


def rows(*cells: tuple[str, int, str, str | None]) -> pa.Table:
    names = ["sample_id", "level", "truth", "prediction"]
    return pa.table(dict(zip(names, map(list, zip(*cells, strict=True)), strict=True)))


def test_rows_in_any_order_make_paths() -> None:
    paths = paths_of(
        rows(
            ("2", 2, "r/x/a", "r/y/c"),
            ("1", 1, "r/z", None),
            ("2", 1, "r/x", "r/x"),
        ),
        TREE,
    )
    number = paths.nodes.numbers
    assert paths.sample_ids.to_pylist() == ["2", "1"]
    assert paths.num_levels.tolist() == [2, 1]
    assert paths.truth[0].tolist() == [number["r/x"], number["r/x/a"]]
    assert paths.prediction.tolist() == [
        [number["r/x"], number["r/y/c"]],
        [NOT_PARSED, NOT_PARSED],
    ]
    assert paths.correct.tolist() == [[True, False], [False, False]]
    assert paths.off_tree.tolist() == [True, False]
    assert paths.whole_is_right.tolist() == paths.leaf_is_right.tolist() == [False, False]
    (one,) = paths.take(np.array([1])).truth.tolist()
    assert one == [number["r/z"]]


def test_an_unknown_answer_breaks_the_path() -> None:
    nodes = NodeTable.of(TREE)
    x, a, y = (nodes.numbers[node_id] for node_id in ("r/x", "r/x/a", "r/y"))
    predictions = [[x, a], [x, UNKNOWN], [UNKNOWN, a], [y, UNKNOWN], [NOT_PARSED, a]]
    paths = Paths(
        nodes=nodes,
        sample_ids=pa.array(["1", "2", "3", "4", "5"]),
        truth=np.full((5, 2), [x, a], dtype=np.int32),
        prediction=np.array(predictions, dtype=np.int32),
        num_levels=np.full(5, 2),
    )
    assert paths.off_tree.tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([("1", 1, "r/x", None), ("1", 1, "r/x", None)], "sample '1' does not have each"),
        ([("1", 1, "r/z", None), ("2", 2, "r/x/a", None)], "sample '2' does not have each"),
        (
            [("1", 1, "r/x", None), ("1", 2, "r/x/a", None), ("1", 2, "r/x/a", None)],
            "sample '1' does not have each",
        ),
        (
            # as many rows as levels
            [("1", 1, "r/x", None), ("1", 1, "r/x", None), ("1", 3, "r/x/a", None)],
            "sample '1' does not have each",
        ),
        ([("1", 0, "r", None)], "sample '1' does not have each"),
        ([("1", 1, "r/q", None)], "truth 'r/q' is no node"),
        ([("1", 1, "r/x", "q")], "prediction 'q' is no node"),
    ],
)
def test_rows_that_make_no_path_are_refused(
    cells: list[tuple[str, int, str, str | None]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paths_of(rows(*cells), TREE)


def test_texts_become_numbers_over_all_chunks() -> None:
    plain = pa.chunked_array([["b", "a"], ["c", None, "a"]])
    parts = [
        pa.array(["b", "a"]).dictionary_encode(),
        pa.array(["c", None, "a"]).dictionary_encode(),
    ]
    for column in (plain, pa.chunked_array(parts), plain.cast(pa.large_string())):
        codes, texts = encode_column(column)
        assert [None if c < 0 else texts[int(c)].as_py() for c in codes] == [
            "b",
            "a",
            "c",
            None,
            "a",
        ]
    codes, texts = encode_column(pa.chunked_array([], pa.string()))
    assert len(codes) == len(texts) == 0
