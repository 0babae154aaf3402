"""Rows of predictions, written short."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from sekd.data.predictions import PREDICTION_SCHEMA
from sekd.data.taxonomy import Taxonomy


@pytest.fixture(scope="session")
def tree() -> Taxonomy:
    return Taxonomy.from_paths(
        {"a": ["r", "x", "a"], "b": ["r", "x", "b"], "c": ["r", "y", "c"], "z": ["r", "z"]}
    )


@pytest.fixture(scope="session")
def rows_of(tree: Taxonomy) -> Callable[..., pa.Table]:
    """Make rows of ``{sample: "truth: answers"}``: leaf names, "-" for what could not be parsed."""

    def make(samples: dict[str, str]) -> pa.Table:
        rows = []
        for sample, text in samples.items():
            leaf, answers = text.split(": ")
            for node, answer in zip(tree.path(tree.leaf(leaf)), answers.split(), strict=True):
                named = tree.named(answer, node.depth)
                rows.append(row(sample, node.depth, node.id, named[0].id if named else None))
        return pa.Table.from_pylist(rows[::-1], PREDICTION_SCHEMA)

    def row(sample: str, level: int, truth: str, answer: str | None) -> dict[str, object]:
        names: dict[str, object] = {"model": "base", "dataset": "d", "paradigm": "joint"}
        options: Sequence[str] = [node.id for node in tree.nodes if node.depth == level]
        return names | {
            "sample_id": sample,
            "level": level,
            "rank": f"level {level}",
            "options": options,
            "truth": truth,
            "prediction": answer,
        }

    return make
