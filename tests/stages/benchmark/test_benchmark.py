"""Benchmarks: what lmms-eval wrote is read, paired and told apart from what it did not write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sekd.analysis.benchmark import (
    BenchmarkRow,
    BenchmarkScores,
    compare_benchmarks,
    pair_scores,
    paired_interval,
)
from sekd.config import BenchmarkSpec, RunConfig
from sekd.errors import ShardError
from sekd.io.hashing import digest
from sekd.report.benchmark import benchmark_table
from sekd.report.writers import to_markdown, to_terminal
from sekd.stages.benchmark.run import benchmark_fields

BENCHMARK = Path(__file__).parents[2] / "benchmark"
KEY = ("vqa", "acc", "none")


def results(
    figure: float,
    values: Sequence[Any],
    *,
    ids: Sequence[Any] | None = None,
    better: bool | None = True,
) -> BenchmarkScores:
    """One task with one metric, whose samples have these values."""
    ids = range(len(values)) if ids is None else ids
    samples = [{"doc_id": i, "acc": value} for i, value in zip(ids, values, strict=True)]
    return BenchmarkScores(
        figures={KEY: figure},
        higher_is_better={("vqa", "acc"): better},
        num_samples={"vqa": len(values)},
        samples={"vqa": samples},
    )


def row(base: BenchmarkScores, student: BenchmarkScores | None) -> BenchmarkRow:
    (only,) = compare_benchmarks(base, student, num_bootstrap=500, seed=0)
    return only


# What lmms-eval 0.7.3 wrote for the tiny model and its student on 30 drawn pictures.


def recorded(model: str) -> BenchmarkScores:
    return BenchmarkScores.load(BENCHMARK / "recorded" / model)


def test_recorded_results_are_read() -> None:
    base = recorded("base")
    assert base.figures == {("drawn_order", "accuracy", "none"): 0.5}
    assert base.higher_is_better == {("drawn_order", "accuracy"): True}
    assert base.num_samples == {"drawn_order": 30}
    assert len(base.samples["drawn_order"]) == 30


def test_recorded_results_are_compared() -> None:
    found = row(recorded("base"), recorded("student"))
    assert (found.base, found.student) == (0.5, pytest.approx(1 / 3))
    assert found.change == pytest.approx(-1 / 6)
    # Five of 30 samples differ, all in one direction: McNemar's exact test has p = 0.0625.
    assert found.low < found.change < 0 < found.high
    assert (found.verdict, found.no_interval) == ("unclear", None)


def test_the_order_of_the_samples_does_not_matter() -> None:
    base, student = recorded("base"), recorded("student")
    turned = BenchmarkScores(
        student.figures,
        student.higher_is_better,
        student.num_samples,
        {task: list(reversed(rows)) for task, rows in student.samples.items()},
    )
    assert row(base, turned) == row(base, student)


def test_the_base_alone_has_no_change() -> None:
    found = row(recorded("base"), None)
    assert found.base == 0.5
    assert found.student is found.change is found.low is found.no_interval is None


@pytest.mark.parametrize("damage", ["{", '{"results": []}', '{"higher_is_better": {}}'])
def test_damaged_results_are_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "results.json").write_text(damage)
    with pytest.raises(ShardError, match=r"results\.json: not what lmms-eval writes"):
        BenchmarkScores.load(tmp_path)


def test_entries_that_are_no_figures_are_left_out(tmp_path: Path) -> None:
    entries = {"alias": "vqa", "acc,none": 0.5, "acc_stderr,none": 0.1, "samples": 8}
    entries |= {"acc_stderr_clt,none": 0.1, "submission,none": None, "cider,strict": "N/A"}
    content = {"results": {"vqa": entries, "all": {"alias": "all", "acc,strict": 50.0}}}
    (tmp_path / "results.json").write_text(json.dumps(content))
    figures = BenchmarkScores.load(tmp_path).figures
    assert figures == {KEY: 0.5, ("all", "acc", "strict"): 50.0}


# Scores behind a figure: only where their mean is the figure.


@pytest.mark.parametrize(
    ("base", "student"),
    [
        pytest.param(results(0.5, [0, 1]), results(1.0, [1, 1]), id="numbers"),
        pytest.param(results(0.5, [False, True]), results(1.0, [True, True]), id="booleans"),
        pytest.param(results(50.0, [0, 1]), results(100.0, [1, 1]), id="percent"),
        pytest.param(
            results(50.0, [{"id": "a", "right": False}, {"id": "b", "right": True}]),
            results(100.0, [{"id": "a", "right": True}, {"id": "b", "right": True}]),
            id="an entry of a dictionary",
        ),
        pytest.param(
            results(33.33, [0, 1, 0]), results(66.67, [1, 1, 0]), id="rounded to two digits"
        ),
    ],
)
def test_scores_are_found(base: BenchmarkScores, student: BenchmarkScores) -> None:
    pairing = pair_scores(base, student, KEY)
    assert pairing.reason is None
    assert pairing.base is not None
    assert pairing.student is not None
    assert pairing.base.mean() == pytest.approx(base.figures[KEY], abs=0.01)
    assert pairing.student.mean() == pytest.approx(student.figures[KEY], abs=0.01)
    assert row(base, student).low is not None


@pytest.mark.parametrize(
    ("base", "student", "reason"),
    [
        (results(0.7, [0, 1]), results(1.0, [1, 1]), "not a mean over samples"),
        (results(0.5, [0, 1]), results(0.7, [1, 1]), "not a mean over samples"),
        (results(0.5, ["A", "B"]), results(1.0, ["A", "A"]), "not a mean over samples"),
        (results(0.5, [0, None]), results(1.0, [1, 1]), "not a mean over samples"),
        (results(0.5, [0, 1]), results(1.0, [1, 1], ids=[0, 2]), "saw other samples"),
        (results(0.5, [0, 1]), results(1.0, [1]), "saw other samples"),
        (results(0.5, [0, 1], ids=[1, 1]), results(1.0, [1, 1]), "more than once"),
        (
            results(0.5, [{"x": 0, "y": 1}, {"x": 1, "y": 0}]),
            results(1.0, [{"x": 1, "y": 1}, {"x": 1, "y": 1}]),
            "several scores",
        ),
    ],
)
def test_no_interval_has_a_reason(
    base: BenchmarkScores, student: BenchmarkScores, reason: str
) -> None:
    found = row(base, student)
    assert reason in found.no_interval
    assert found.low is found.high is found.verdict is None
    assert found.change == pytest.approx(student.figures[KEY] - base.figures[KEY])


def test_a_group_has_a_figure_and_no_samples() -> None:
    sides = [BenchmarkScores({KEY: figure}, {}, {}, {}) for figure in (0.5, 0.6)]
    found = row(*sides)
    assert found.no_interval == "only the aggregate is known"
    assert (found.num_samples, found.higher_is_better) == (None, None)


@pytest.mark.parametrize(
    ("better", "verdict"), [(True, "gain"), (False, "loss"), (None, None)], ids=str
)
def test_the_task_says_which_way_is_better(better: bool | None, verdict: str | None) -> None:
    low, high = [0.0] * 20, [1.0] * 20
    assert row(results(0, low, better=better), results(1, high)).verdict == verdict


def test_a_change_whose_interval_holds_zero_is_unclear() -> None:
    found = row(results(0.5, [0, 1] * 5), results(0.5, [1, 0] * 5))
    assert found.low < 0 < found.high
    assert found.verdict == "unclear"


# The interval.

scores = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=30)


@given(base=scores, shift=st.sampled_from([-0.5, 0.125]))
def test_the_same_change_of_all_samples_has_no_spread(base: list[float], shift: float) -> None:
    base = [*base, 0.0, 0.25, 1.0, 0.0, 0.25, 1.0]  # enough pairs, of more than two scores
    low, high = paired_interval(np.array(base), np.array(base) + shift, num_bootstrap=20, seed=0)
    assert low == high == pytest.approx(shift)


@given(base=scores)
def test_no_change_at_all_leaves_room_for_a_rare_one(base: list[float]) -> None:
    low, high = paired_interval(np.array(base), np.array(base), num_bootstrap=20, seed=0)
    assert low == -high < 0


@given(base=scores, seed=st.integers(0, 99), data=st.data())
def test_the_interval_holds_the_change(base: list[float], seed: int, data: Any) -> None:
    student = data.draw(
        st.lists(scores.map(lambda s: s[0]), min_size=len(base), max_size=len(base))
    )
    changes = np.array(student) - np.array(base)
    low, high = paired_interval(np.array(base), np.array(student), num_bootstrap=500, seed=seed)
    assert -1 <= low <= changes.mean() + 0.05
    assert changes.mean() - 0.05 <= high <= 1


def test_the_interval_matches_a_bootstrap_over_samples() -> None:
    rng = np.random.default_rng(0)
    base, student = rng.integers(0, 2, 200), rng.integers(0, 3, 200) > 0
    changes = student.astype(float) - base
    means = changes[rng.integers(0, 200, (20000, 200))].mean(axis=1)
    expected = np.percentile(means, [2.5, 97.5])
    got = paired_interval(base.astype(float), student.astype(float), num_bootstrap=20000, seed=1)
    np.testing.assert_allclose(got, expected, atol=0.006)


def test_pairing_narrows_the_interval() -> None:
    base = np.array([0.0, 1.0] * 50)
    student = base.copy()
    student[:20] = 1.0
    low, high = paired_interval(base, student, num_bootstrap=1000, seed=0)
    assert 0 < low < 0.1 < high < 0.17  # two independent samples would give about +- 0.14


# The table.


def test_the_table_shows_verdicts_and_reasons() -> None:
    rows = compare_benchmarks(recorded("base"), recorded("student"), num_bootstrap=100, seed=0)
    rows += compare_benchmarks(
        results(40.0, ["a"], better=False), results(30.0, ["b"]), num_bootstrap=9, seed=0
    )
    table = benchmark_table(rows)
    header, alignment, first, second = to_markdown(table).splitlines()
    assert header == "| task | metric | samples | base | student | change | 95 % |  |"
    assert alignment == "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    minus = "\u2212"
    assert first.startswith(
        f"| drawn\\_order | accuracy | 30 | 0.5 | 0.3333 | {minus}0.167 | {minus}0."
    )
    assert first.endswith("| unclear |")
    assert second == (
        f"| vqa | acc (lower is better) | 1 | 40 | 30 | {minus}10 |  | "
        "no interval: not a mean over samples |"
    )
    assert to_terminal(table).row_count == 2


# The fingerprint.


def test_the_fingerprint_covers_everything_that_changes_the_figures(
    config: RunConfig, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks"
    (tasks / "__pycache__").mkdir(parents=True)
    (tasks / "own.yaml").write_text("task: own")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')

    def save_weights(value: float) -> None:
        names = [f"base_model.model.q_proj.lora_{part}.weight" for part in "AB"]
        weights = {name: np.full((1, 1), value, np.float32) for name in names}
        save_file(weights, adapter / "adapter_model.safetensors")

    save_weights(1)
    spec = BenchmarkSpec(tasks=("vqa",), include_path=tasks)

    def fingerprint(
        task: str = "vqa", identity: str = "m", adapter: Path | None = None, **changes: Any
    ) -> str:
        own = spec.model_copy(update=changes)
        run = config.model_copy(update={"benchmark": own})
        return digest(benchmark_fields(run, task, {"content": identity}, adapter, {"torch": "2"}))

    first = fingerprint()
    changed: list[dict[str, Any]] = [
        {"task": "gqa"},
        {"identity": "other"},
        {"adapter": adapter},
        {"limit": 3},
        {"model": "vllm"},
        {"model_args": {"fps": 1}},
        {"num_fewshot": 1},
        {"batch_size": 2},
        {"seed": 1},
        {"include_path": None},
    ]
    prints = [fingerprint(**change) for change in changed]
    assert len({first, *prints}) == 1 + len(changed)
    for same in ({"tasks": ("vqa", "gqa")}, {"python": Path("p")}, {"num_bootstrap": 5}):
        assert fingerprint(**same) == first
    (tasks / "__pycache__" / "own.pyc").write_text("compiled meanwhile")
    assert fingerprint() == first
    with_adapter = fingerprint(adapter=adapter)
    save_weights(2)
    assert fingerprint(adapter=adapter) != with_adapter
    (tasks / "own.yaml").write_text("task: own\nlimit: 3")
    assert fingerprint() != first
