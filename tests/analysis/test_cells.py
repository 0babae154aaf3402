from __future__ import annotations

import pyarrow as pa
import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.summary import measure_cell
from sekd.config import EvaluateSpec
from sekd.data.predictions import PREDICTION_SCHEMA
from sekd.data.taxonomy import Taxonomy

TREE = Taxonomy.from_paths(
    {"a": ["r", "x", "a"], "b": ["r", "x", "b"], "c": ["r", "y", "c"], "y2": ["r", "z"]}
)


def table(*rows: tuple[str, int, str, str | None]) -> pa.Table:
    """Rows of (sample, level, truth, prediction)."""
    return pa.Table.from_pylist(
        [
            {
                "model": "base",
                "dataset": "d",
                "paradigm": "joint",
                "sample_id": sample,
                "level": level,
                "rank": f"level {level}",
                "options": [truth],
                "truth": truth,
                "prediction": prediction,
            }
            for sample, level, truth, prediction in rows
        ],
        PREDICTION_SCHEMA,
    )


ROWS = table(
    ("2", 2, "r/x/a", "r/y/c"),  # right parent, child of another: off the tree
    ("1", 1, "r/x", "r/x"),
    ("1", 2, "r/x/b", "r/x/b"),
    ("2", 1, "r/x", "r/x"),
    ("3", 1, "r/z", None),  # ragged: one level only, and not parsed
)


CELL = CellRows(CellKey("d", "base", "joint"), TREE, ROWS, num_quarantined=0, cost=None)


def test_rows_are_joined_by_sample_and_level() -> None:
    outcomes = Outcomes.of(CELL.paths)  # samples in order of appearance: 2, 1, 3
    assert outcomes.num_levels.tolist() == [2, 2, 1]
    assert outcomes.correct[:2].tolist() == [[True, False], [True, True]]
    assert outcomes.parsed[:2].all()
    assert not outcomes.parsed[2, 0]
    assert outcomes.off_tree.tolist() == [True, False, False]


def test_a_parse_failure_counts_as_wrong_in_the_metrics_of_a_cell() -> None:
    metrics = measure_cell(CELL, EvaluateSpec()).to_json()
    assert metrics["num_samples"] == 3
    assert metrics["hca"]["value"] == pytest.approx(100 / 3)
    assert metrics["parse_failure_rate"]["value"] == pytest.approx(100 / 3)
