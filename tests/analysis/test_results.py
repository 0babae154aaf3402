from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluations import comparison, diagnosis, read, row, write_run

from sekd.analysis.metrics import Estimate
from sekd.analysis.results import NO_ERROR, Agreement, CellKey, Evaluation
from sekd.errors import ConfigError

STUDENT, BASE = CellKey("birds", "student", "joint"), CellKey("birds", "base", "joint")


def test_a_whole_run(tmp_path: Path) -> None:
    results = Evaluation.read(write_run(tmp_path))
    assert results.datasets == ["birds"]
    assert results.models == ["base", "student", "taxonomy"]
    assert len(results.plain_cells) == 6
    assert results.cells[STUDENT].computed_tokens == 152.0
    assert results.cells[STUDENT].joint_passes("tokens") == 1.25
    assert results.cells[STUDENT].joint_passes("seconds") is None
    assert results.ranks == {"birds": {1: "order", 2: "species"}}
    assert results.mean_levels == {"birds": 2.0}
    assert results.options_alone("birds") == Estimate(58.2, 55.2, 61.2)
    assert [cell.key.control for cell in results.controls_of(STUDENT)] == ["blind"]
    assert results.config is not None


def test_an_old_file_has_no_controls_costs_or_diagnoses(tmp_path: Path) -> None:
    results = read(tmp_path, row())
    (cell,) = results.cells.values()
    assert cell.key.control == "none"
    assert cell.cost("calls") is None
    assert cell.first_error == {}
    assert cell.ece is None
    assert not cell.reliability
    assert not cell.confusions
    assert results.predictions is results.config is None
    assert results.ranks == {"birds": {1: "level 1", 2: "level 2"}}
    assert results.mean_levels == {}


def test_a_diagnosis(tmp_path: Path) -> None:
    (cell,) = read(tmp_path, row(diagnosis=diagnosis("conditioned"))).cells.values()
    assert cell.first_error == {NO_ERROR: 50.0, 1: 20.0, 2: 30.0}
    assert cell.ece == 20.0
    assert [each.count for each in cell.reliability] == [48]  # the empty bin is no point


def test_a_metric_that_no_sample_counts_towards(tmp_path: Path) -> None:
    odd = row(tice=None, accuracy_given_parent_wrong={"2": None})
    (cell,) = read(tmp_path, odd).cells.values()
    assert cell.rate("tice") is None
    assert cell.by_level("accuracy_given_parent_wrong") == {}


def test_a_comparison_is_found_from_both_sides(tmp_path: Path) -> None:
    given = [comparison(("student", "joint"), ("base", "joint"), (5.0, -1.0, 9.0))]
    results = read(tmp_path, row(), row("student"), comparisons=given)
    there, back = results.compare(STUDENT, BASE), results.compare(BASE, STUDENT)
    assert there is not None
    assert back is not None
    assert there.differences == {"hca": Estimate(5.0, -1.0, 9.0)}
    assert back.differences == {"hca": Estimate(-5.0, -9.0, 1.0)}
    assert there.levels[1] == Agreement(10, 4, 6, 4)
    assert back.levels[1] == Agreement(10, 6, 4, 4)
    assert there.p_value == back.p_value == 0.25
    assert results.compare(STUDENT, STUDENT) is None


def test_predictions_under_a_control_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "predictions.parquet"
    plain = pq.read_table(path).to_pylist()
    rows = [each | {"control": "none"} for each in plain]
    rows += [each | {"control": "blind"} for each in plain]
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    table = Evaluation.read(run).predictions
    assert table is not None
    assert len(table) == len(plain)


def test_right_wrong_and_unknown(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()[:3]
    rows[0] |= {"prediction": rows[0]["truth"]}
    rows[1] |= {"prediction": None}
    rows[2] |= {"truth": None, "prediction": rows[2]["truth"]}
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    table = Evaluation.read(run).predictions
    assert table is not None
    assert table["correct"].to_pylist() == [True, False, None]


def test_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run sekd evaluate first"):
        Evaluation.read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"rows": [{}]}', '{"rows": []}'])
def test_damaged_metrics_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ConfigError, match=r"metrics\.json"):
        Evaluation.read(tmp_path)


def test_a_config_that_cannot_be_read_any_more_costs_the_pictures_only(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "evaluate.config.yaml").write_text(json.dumps({"of": "another version"}))
    assert Evaluation.read(run).config is None
