from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluations import DIAGNOSIS, calibrated, comparison, read, row, write_run

from sekd.analysis.cell_key import CellKey, solver_key
from sekd.analysis.comparison import Agreement, mcnemar_test
from sekd.analysis.diagnosis import NO_ERROR, SampleShare
from sekd.analysis.estimates import Difference, Estimate
from sekd.analysis.results import Evaluation
from sekd.errors import ConfigError

STUDENT, BASE = CellKey("birds", "student", "joint"), CellKey("birds", "base", "joint")


def test_a_complete_run_is_read(tmp_path: Path) -> None:
    results = Evaluation.read(write_run(tmp_path))
    assert results.datasets == ["birds"]
    assert results.models == ["base", "student", "taxonomy"]
    assert len(results.plain_cells) == 6
    cost = results.cells[STUDENT].cost
    assert cost is not None
    assert cost.computed_tokens == 152.0
    assert cost.relative is not None
    assert cost.relative.tokens == 1.25
    assert cost.relative.seconds is None
    assert results.ranks == {"birds": {1: "order", 2: "species"}}
    assert results.options_alone("birds") == Estimate(58.2, 55.2, 61.2, 24)
    assert [cell.key.control for cell in results.controls_of(STUDENT)] == ["blind"]
    assert not results.cells[solver_key("birds")].key.is_controlled
    assert results.config is not None


def test_metrics_without_predictions_and_config_are_read(tmp_path: Path) -> None:
    results = read(tmp_path, row())
    (cell,) = results.cells.values()
    assert cell.cost is None
    assert cell.diagnosis.calibration is None
    assert results.predictions is results.config is None
    assert results.ranks == {"birds": {1: "level 1", 2: "level 2"}}


def test_a_diagnosis_is_read(tmp_path: Path) -> None:
    (cell,) = read(tmp_path, row(diagnosis=calibrated(DIAGNOSIS))).cells.values()
    diagnosis = cell.diagnosis
    assert diagnosis.first_error == {
        1: SampleShare(5, 20.0),
        2: SampleShare(7, 30.0),
        NO_ERROR: SampleShare(12, 50.0),
    }
    assert diagnosis.calibration is not None
    assert diagnosis.calibration.all.ece == 20.0
    assert [reliability.count for reliability in diagnosis.calibration.all.bins] == [0, 48]
    assert [pair.prediction_name for pair in diagnosis.most_confused] == ["tern"]


def test_a_metric_that_no_sample_counts_towards_is_none(tmp_path: Path) -> None:
    odd = row(tice=None, accuracy_given_parent_wrong={"2": None})
    (cell,) = read(tmp_path, odd).cells.values()
    assert cell.rate("tice") is None
    assert cell.by_level("accuracy_given_parent_wrong") == {}


def test_a_comparison_is_found_by_its_cells(tmp_path: Path) -> None:
    given = [comparison(("student", "joint"), ("base", "joint"), (5.0, -1.0, 9.0))]
    results = read(tmp_path, row(), row("student"), comparisons=given)
    found = results.find_comparison(STUDENT, BASE)
    assert found is not None
    assert found.paired.differences.rate("hca") == Difference(5.0, -1.0, 9.0, a=0.0, b=0.0)
    assert found.paired.levels[1] == Agreement(10, 6, 6, 2)
    assert found.paired.whole_path.mcnemar == mcnemar_test(6, 6)
    assert results.find_comparison(BASE, STUDENT) is None


def test_a_metrics_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    content = read(tmp_path, row("student", cost=None)).to_json()
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert json.dumps(Evaluation.read(tmp_path).to_json()) == json.dumps(content)


def test_predictions_under_a_control_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "predictions.parquet"
    plain = pq.read_table(path).to_pylist()
    rows = [*plain, *(row | {"control": "blind"} for row in plain)]
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    table = Evaluation.read(run).predictions
    assert table is not None
    assert len(table) == len(plain)


def test_an_unparsed_prediction_is_not_correct(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()[:3]
    rows[0] |= {"prediction": rows[0]["truth"]}
    rows[1] |= {"prediction": "another"}
    rows[2] |= {"prediction": None}
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    table = Evaluation.read(run).predictions
    assert table is not None
    assert table["correct"].to_pylist() == [True, False, False]


def test_missing_metrics_name_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run sekd evaluate first"):
        Evaluation.read(tmp_path)


EMPTY = '{"rows": [], "comparisons": [], "root_is_scored": false}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"rows": [{}]}', EMPTY])
def test_damaged_metrics_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ConfigError, match=r"metrics\.json: .*run sekd evaluate again"):
        Evaluation.read(tmp_path)


def test_predictions_without_a_column_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "predictions.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["control"]), path)
    with pytest.raises(ConfigError, match=r"predictions\.parquet: no column control"):
        Evaluation.read(run)


def test_an_unreadable_config_is_no_error(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "evaluate.config.yaml").write_text(json.dumps({"of": "another version"}))
    assert Evaluation.read(run).config is None
