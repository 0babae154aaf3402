"""Files of predictions over a small taxonomy, and the paths that they resolve to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.analysis.paths import NOT_PARSED, UNKNOWN
from sekd.analysis.scoring.resolve import (
    ResolvedCell,
    ResolvedPredictions,
    resolve_predictions,
)
from sekd.data.taxonomy import Taxonomy

TREE = Taxonomy.from_paths(
    {
        "a": ["r", "x", "a"],
        "b": ["r", "x", "b"],
        "c": ["r", "y", "c"],
        "a of y": ["r", "y", "a"],
        "z": ["r", "z"],
    }
)


def shown(cell: ResolvedCell) -> dict[str, tuple[str, str]]:
    """Sample -> its right and its predicted path; "-" is not parsed, "?" unknown."""

    def ids(numbers: Sequence[int]) -> str:
        names = {NOT_PARSED: "-", UNKNOWN: "?"}
        return " ".join(names.get(n) or cell.paths.nodes.nodes[n].id for n in numbers)

    paths = cell.paths
    rows = zip(paths.truth.tolist(), paths.prediction.tolist(), paths.num_levels, strict=True)
    return {
        sample: (ids(truth[:length]), ids(prediction[:length]))
        for sample, (truth, prediction, length) in zip(
            paths.sample_ids.to_pylist(), rows, strict=True
        )
    }


def write(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(names)]
        lines += [
            ",".join(
                '"' + str("" if cell is None else cell).replace('"', '""') + '"' for cell in row
            )
            for row in rows
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
    return path


def read(path: Path, **options: Any) -> ResolvedPredictions:
    return resolve_predictions(path, TREE, **options)


def only_cell(path: Path, **options: Any) -> dict[str, tuple[str, str]]:
    (cell,) = read(path, **options).cells
    return shown(cell)
