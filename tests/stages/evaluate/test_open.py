"""The paradigm `open`: rows of a cell that asks for names, with the tiny model itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sekd.analysis.calibration import measure_calibration
from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.summary import measure_cell
from sekd.config import DescentSpec, EvaluateSpec, RunConfig
from sekd.data.predictions import PREDICTIONS, read_predictions
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell, cell_fields


def test_a_cell_of_names_has_rows_like_any_other(
    config: RunConfig, seen: Dataset, tmp_path: Path
) -> None:
    cell = EvaluationCell(Candidate("base", config.model), seen, "open")
    worker = CellWorker(config, cell)
    shard = Shard(0, tuple(seen.samples.ids.to_pylist()))
    result = worker.process(shard, tmp_path, lambda _: None)
    worker.close()
    assert (result.num_done, list(result.quarantined)) == (12, [])
    table = read_predictions([result.files[PREDICTIONS]])
    assert len(table) == 12 * 4
    path_logprob = 0.0
    for row in table.to_pylist():
        parent = row["prediction"].rpartition("/")[0]
        children = {child.id for child in seen.taxonomy.children(seen.taxonomy[parent])}
        assert set(row["options"]) == children
        shares = np.exp(row["option_logprobs"])
        assert shares.sum() == pytest.approx(1, abs=1e-5)
        chosen = row["options"].index(row["prediction"])
        assert shares[chosen] == shares.max()
        path_logprob = float(np.log(shares[chosen])) + (path_logprob if row["level"] > 1 else 0.0)
        assert row["path_logprob"] == pytest.approx(path_logprob, abs=1e-4)
    assert result.stats["calls"] <= 12 * 4 * 2
    assert result.stats["cached_tokens"] > result.stats["prefill_tokens"]
    calibration = measure_calibration(table)
    assert calibration is not None
    assert calibration.all.num_answers == 12 * 4
    rows = CellRows(CellKey("seen", "base", "open"), seen.taxonomy, table, 0, None)
    metrics = measure_cell(rows, EvaluateSpec())
    unparsed, tice = metrics.rate("parse_failure_rate"), metrics.rate("tice")
    assert unparsed is not None
    assert tice is not None
    assert unparsed.value == tice.value == 0


def test_names_do_not_depend_on_how_a_quiz_is_made(config: RunConfig, seen: Dataset) -> None:
    def fields(**changes: object) -> object:
        spec = seen.spec.model_copy(update=changes)
        dataset = Dataset(seen.name, spec, seen.taxonomy, seen.samples)
        return cell_fields(config, EvaluationCell(Candidate("base", config.model), dataset, "open"))

    assert fields(num_options=3, distractors="siblings") == fields()
    assert fields(subject="dish") != fields()


def test_a_beam_gives_the_most_probable_paths(
    config: RunConfig, seen: Dataset, tmp_path: Path
) -> None:
    config = config.model_copy(update={"descent": DescentSpec(beam=3)})
    cell = EvaluationCell(Candidate("base", config.model), seen, "open")
    worker = CellWorker(config, cell)
    result = worker.process(Shard(0, tuple(seen.samples.ids.to_pylist())), tmp_path, lambda _: None)
    worker.close()
    rows = read_predictions([result.files[PREDICTIONS]]).to_pylist()
    for row in rows[::4]:
        first, *others = row["paths"]
        assert len(others) == 2
        shares = [each["probability"] for each in row["paths"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1 + 1e-6
        (last,) = (
            each for each in rows if each["sample_id"] == row["sample_id"] and each["level"] == 4
        )
        assert last["prediction"] == first["node"]
        assert np.exp(last["path_logprob"]) == pytest.approx(first["probability"], rel=1e-4)


def test_a_beam_is_part_of_the_fingerprint_where_there_is_one(
    config: RunConfig, seen: Dataset
) -> None:
    cell = EvaluationCell(Candidate("base", config.model), seen, "open")
    fields = [
        cell_fields(config.model_copy(update={"descent": spec}), cell)
        for spec in (DescentSpec(), DescentSpec(max_options=3), DescentSpec(beam=2))
    ]
    assert fields[0] == fields[1] != fields[2]
