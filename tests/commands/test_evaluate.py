"""sekd evaluate: the matrix grows, what is done stays done, and what failed alone is done again."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from sekd.cli import main
from sekd.errors import ShardError
from sekd.stages.evaluate import candidates
from sekd.stages.evaluate.cells import CellWorker

SMALL = (
    "evaluate.controls=[taxonomy, blind]",
    "evaluate.limit=4",
    "evaluate.num_bootstrap=10",
    "evaluate.runtime.shard_size=2",
    "evaluate.runtime.batch_size=4",
)


def evaluate(config: Path, *settings: str, options: tuple[str, ...] = ()) -> Result:
    pairs = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return CliRunner().invoke(main, ["evaluate", str(config), *pairs, *options])


def attempts(config: Path) -> dict[str, bytes]:
    """Cell and name of every attempt's end -> its content."""
    root = config.parent / "run" / "predictions"
    return {
        f"{path.parts[-4]} {path.name}": path.read_bytes()
        for path in root.glob("*/*/attempts/*.end.json")
    }


def metrics(config: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((config.parent / "run" / "metrics.json").read_text())
    return content


def test_what_is_added_leaves_finished_cells_alone(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine is opened in each run, whatever the number of cells that are new to it."""
    opened = []
    open_candidate = candidates.open_candidate
    monkeypatch.setattr(
        candidates, "open_candidate", lambda *args: opened.append(1) or open_candidate(*args)
    )
    few = ("evaluate.datasets=[seen]", "evaluate.paradigms=[independent]", "evaluate.controls=[]")
    first = evaluate(config_file, *few)
    assert first.exit_code == 0, first.output
    before = attempts(config_file)
    assert len(before) == 2
    assert len(opened) == 1
    more = evaluate(
        config_file,
        "evaluate.datasets=[unseen, seen]",
        "evaluate.paradigms=[joint, independent]",
        "evaluate.controls=[blind, taxonomy]",
    )
    assert more.exit_code == 0, more.output
    after = attempts(config_file)
    assert before.items() <= after.items()
    assert Counter(name.split()[0] for name in after) == {
        f"{dataset}-base-{paradigm}{control}": 2
        for dataset in ("seen", "unseen")
        for paradigm in ("joint", "independent")
        for control in ("", "-blind")
    }
    assert len(opened) == 2
    assert evaluate(config_file, *few).exit_code == 0
    assert attempts(config_file) == after
    assert len(opened) == 2


def test_rows_say_what_they_are_of(config_file: Path) -> None:
    result = evaluate(config_file, "evaluate.paradigms=[joint, independent]")
    assert result.exit_code == 0, result.output
    rows = metrics(config_file)["rows"]
    assert [(row["dataset"], row["zero_shot"]) for row in rows] == [
        *[("seen", False)] * 5,
        *[("unseen", True)] * 5,
    ]
    for row in rows:
        if row["model"] == "taxonomy":
            assert row["cost"] is None
            continue
        cost = row["cost"]
        assert cost["calls"] == {"joint": 1, "independent": 4}[row["paradigm"]]
        assert min(cost["seconds"], cost["prefill_tokens"], cost["decode_tokens"]) > 0
        assert set(cost["relative"]) == {"tokens", "seconds", "unit"}
        is_joint = (row["paradigm"], row["control"]) == ("joint", "none")
        assert (cost["relative"]["tokens"] == 1) == is_joint
    table = pq.read_table(config_file.parent / "run" / "predictions.parquet")
    counts = Counter(zip(*(table[n].to_pylist() for n in ("model", "control")), strict=True))
    # Samples, levels, datasets, paradigms.
    assert counts == {
        ("base", "none"): 4 * 4 * 2 * 2,
        ("base", "blind"): 4 * 4 * 2 * 2,
        ("taxonomy", "taxonomy"): 4 * 4 * 2,
    }
    assert set(table["rotation"].to_pylist()) == {0}
    assert "unseen (zero-shot)" in (config_file.parent / "run" / "metrics.md").read_text()


def fail_once(monkeypatch: pytest.MonkeyPatch, paradigm: str, shard: int) -> None:
    process = CellWorker.process

    def failing(self: CellWorker, this: Any, *args: Any) -> Any:
        if (self._cell.paradigm, this.index) == (paradigm, shard):
            raise ShardError("no luck")
        return process(self, this, *args)

    monkeypatch.setattr(CellWorker, "process", failing)


def test_a_failed_shard_alone_is_done_again(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("evaluate.datasets=[seen]", "evaluate.runtime.max_attempts=1")
    with monkeypatch.context() as patch:
        fail_once(patch, "independent", 1)
        result = evaluate(config_file, *settings)
        assert result.exit_code == 1
        assert "seen-base-independent: 1 of 2 shards are left (shard 1: " in result.output
        assert "--retry-failed" in result.output
        before = attempts(config_file)
        assert len(before) == 8 * 2  # the other cells are done
    assert not (config_file.parent / "run" / "metrics.json").exists()
    assert evaluate(config_file, *settings).exit_code == 1
    assert attempts(config_file) == before
    again = evaluate(config_file, *settings, options=("--retry-failed",))
    assert again.exit_code == 0, again.output
    after = attempts(config_file)
    new = after.keys() - before.keys()
    assert new == {
        "seen-base-independent 00001-002.end.json",
        "seen-base-independent-blind 00001-002.end.json",
    }
    assert len(metrics(config_file)["rows"]) == 9


def test_other_models_stand_beside_the_base(
    config_file: Path, adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings = (
        "evaluate.datasets=[seen]",
        "evaluate.paradigms=[conditioned]",
        "evaluate.controls=[]",
        f"evaluate.models.other.adapter={adapter}",
        f"evaluate.models.same.path={tiny_model}",
        "evaluate.models.same.dtype=float32",
    )
    result = evaluate(config_file, *settings)
    assert result.exit_code == 0, result.output
    rows = {row["model"]: row for row in metrics(config_file)["rows"]}
    assert list(rows) == ["base", "other", "same"]
    assert rows["same"]["hca"] == rows["base"]["hca"] != rows["other"]["hca"]
    before = attempts(config_file)
    elsewhere = shutil.copytree(adapter, tmp_path / "elsewhere")
    moved = [setting.replace(str(adapter), str(elsewhere)) for setting in settings]
    assert evaluate(config_file, *moved).exit_code == 0
    assert attempts(config_file) == before  # its content counts, not its place


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluate.models.other.adapter=nowhere", "evaluate.models.other.adapter: nowhere is no"),
        ("evaluate.models.student.adapter=x", "student is always there; give another name"),
        ("evaluate.models.other.dtype=float32", "dtype without path"),
        ("evaluate.models.other={}", "give path or adapter"),
        ("evaluate.models.other.adaptor=x", "did you mean adapter?"),
        ("evaluate.models.a/b.adapter=x", "String should match pattern"),
        ("evaluate.controls=[blind, forced]", "put joint_forced into evaluate.paradigms"),
        ("evaluate.controls=[blind, blind]", "controls: a name occurs twice"),
        ("evaluate.controls=[blnd]", "evaluate.controls.0: Input should be 'blind'"),
    ],
)
def test_a_bad_matrix_ends_in_one_line(config_file: Path, setting: str, message: str) -> None:
    result = evaluate(config_file, setting)
    assert result.exit_code == 2
    last = result.output.strip().splitlines()[-1]
    assert message in last
