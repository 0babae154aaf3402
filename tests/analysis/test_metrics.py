"""Metrics: the worked example, a plain reference, and the laws that hold between metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.analysis.estimates import Estimate
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.rates import compute_metrics


def score(outcomes: Outcomes, **arguments: Any) -> dict[str, Any]:
    """Every metric as JSON."""
    return compute_metrics(outcomes, **arguments).to_json()


# "1" right, "0" wrong, "x" not parsed.
WORKED = ["1111", "0111", "1011", "1100", "101", "1110"]
NESTED = ("level_accuracy", "accuracy_given_parent_correct", "accuracy_given_parent_wrong")
PLAIN = (
    *("hca", "leaf_accuracy", "por", "tor", "spor_prefix", "spor_run", "dwpa", "tice"),
    "parse_failure_rate",
)


def make_outcomes(
    paths: Sequence[str], off_tree: Sequence[bool] | None = None, padding: bool = False
) -> Outcomes:
    """Build ``Outcomes`` from strings of "1", "0" and "x", with ``padding`` past each one's end."""
    shape = (len(paths), max(map(len, paths), default=1))
    correct, parsed = np.full(shape, padding), np.full(shape, not padding)
    for i, path in enumerate(paths):
        correct[i, : len(path)] = [flag == "1" for flag in path]
        parsed[i, : len(path)] = [flag != "x" for flag in path]
    return Outcomes(
        correct=correct,
        parsed=parsed,
        num_levels=np.array([len(path) for path in paths], dtype=np.int64),
        off_tree=np.array(off_tree or [False] * len(paths), dtype=np.bool_),
    )


def flatten(report: dict[str, Any]) -> dict[str, Any]:
    """Return every estimate of a report under one key: ``por``, ``level_accuracy.1``."""
    nested = {f"{name}.{key}": value for name in NESTED for key, value in report[name].items()}
    return {name: report[name] for name in PLAIN} | nested


def values(report: dict[str, Any]) -> dict[str, float | None]:
    return {name: value and value["value"] for name, value in flatten(report).items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[bool]]:
    """Draw ragged paths of 1 to 6 levels, and for each whether it leaves the tree."""
    paths = draw(st.lists(st.text("110x", min_size=1, max_size=6), min_size=1, max_size=12))
    off_tree = draw(st.lists(st.booleans(), min_size=len(paths), max_size=len(paths)))
    return paths, off_tree


def reference(paths: list[str], off_tree: list[bool], alpha: float) -> dict[str, float | None]:
    """Compute the values one sample at a time, straight from the definitions."""

    def mean(shares: Sequence[float]) -> float | None:
        return 100 * sum(shares) / len(shares) if shares else None

    def over(share: Callable[[list[int], int], float]) -> float | None:
        return mean([share([int(f == "1") for f in path], len(path)) for path in paths])

    def weight(level: int, length: int) -> float:
        if length == 1:
            return 1.0
        return alpha if level == length else (1 - alpha) / (length - 1)

    def longest_run(c: list[int]) -> int:
        return max(map(len, "".join(map(str, c)).split("0")))

    result = {
        "hca": over(lambda c, n: all(c)),
        "leaf_accuracy": over(lambda c, n: c[-1]),
        "por": over(lambda c, n: sum(c) / n),
        "tor": over(
            lambda c, n: sum(c[j] * c[j + 1] for j in range(n - 1)) / (n - 1) if n > 1 else 0
        ),
        "spor_prefix": over(lambda c, n: [*c, 0].index(0) / n),
        "spor_run": over(lambda c, n: longest_run(c) / n),
        "dwpa": over(lambda c, n: sum(weight(k, n) * all(c[:k]) for k in range(1, n + 1))),
        "tice": mean([off for path, off in zip(paths, off_tree, strict=True) if "x" not in path]),
        "parse_failure_rate": mean(["x" in path for path in paths]),
    }
    for j in range(max(map(len, paths))):
        deep = [path for path in paths if len(path) > j]
        result[f"level_accuracy.{j + 1}"] = mean([path[j] == "1" for path in deep])
        if j:
            right = [path[j] == "1" for path in deep if path[j - 1] == "1"]
            wrong = [path[j] == "1" for path in deep if path[j - 1] != "1"]
            result[f"accuracy_given_parent_correct.{j + 1}"] = mean(right)
            result[f"accuracy_given_parent_wrong.{j + 1}"] = mean(wrong)
    return result


def test_the_worked_example_to_two_digits() -> None:
    report = score(make_outcomes(WORKED))
    assert report["num_samples"] == 6
    assert {name: round(value or 0, 2) for name, value in values(report).items()} == {
        "hca": 16.67,
        "leaf_accuracy": 66.67,
        "por": 73.61,
        "tor": 50.0,
        "spor_prefix": 47.22,
        "spor_run": 63.89,
        "tice": 0.0,
        "parse_failure_rate": 0.0,
        # (1 + 0 + 0.05/3 + 2 * 0.05/3 + 0.05/2 + 3 * 0.05/3) / 6
        "dwpa": 18.75,
        "level_accuracy.1": 83.33,
        "level_accuracy.2": 66.67,
        "level_accuracy.3": 83.33,
        "level_accuracy.4": 60.0,
        "accuracy_given_parent_correct.2": 60.0,
        "accuracy_given_parent_correct.3": 75.0,
        "accuracy_given_parent_correct.4": 75.0,
        "accuracy_given_parent_wrong.2": 100.0,
        "accuracy_given_parent_wrong.3": 100.0,
        "accuracy_given_parent_wrong.4": 0.0,
    }


def test_the_report_is_json_without_nan() -> None:
    report = score(make_outcomes(["1", "11"]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(report) == {"num_samples", *PLAIN, *NESTED}
    assert list(report["level_accuracy"]) == ["1", "2"]
    assert list(report["accuracy_given_parent_wrong"]) == ["2"]
    assert report["hca"] == Estimate(100.0, pytest.approx(34.24, abs=0.01), 100.0, 2).to_json()


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([0.0, 0.3, 0.95, 1.0]), st.booleans())
def test_values_match_a_plain_reference(
    case: tuple[list[str], list[bool]], alpha: float, padding: bool
) -> None:
    found = values(score(make_outcomes(*case, padding=padding), alpha=alpha))
    assert found == pytest.approx(reference(*case, alpha))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_metrics_hold_their_order(case: tuple[list[str], list[bool]]) -> None:
    alpha = 0.95
    report = flatten(score(make_outcomes(*case), alpha=alpha))
    at = {name: estimate["value"] for name, estimate in report.items() if estimate}
    for smaller, larger in (
        *(("hca", "spor_prefix"), ("spor_prefix", "spor_run"), ("spor_run", "por")),
        *(("hca", "leaf_accuracy"), ("spor_prefix", "level_accuracy.1"), ("hca", "dwpa")),
        *(("tor", "por"),),
    ):
        assert at[smaller] <= at[larger] + 1e-9, (smaller, larger)
    assert at["dwpa"] <= alpha * at["hca"] + 100 * (1 - alpha) + 1e-9
    for end in ("low", "high"):  # both are proportions of the same samples
        assert report["hca"][end] <= report["leaf_accuracy"][end] + 1e-9


@settings(max_examples=40, deadline=None)
@given(cases())
def test_intervals_are_ordered_and_within_0_and_100(case: tuple[list[str], list[bool]]) -> None:
    for estimate in flatten(score(make_outcomes(*case))).values():
        if estimate:
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 100
            assert estimate["low"] < estimate["high"]


def test_dwpa_spans_from_prefix_to_exact_path() -> None:
    outcomes = make_outcomes(["1111", "0111", "1011", "1100"])
    assert score(outcomes, alpha=1)["dwpa"] == score(outcomes)["hca"]
    even = score(outcomes, alpha=1 / 4)
    assert even["dwpa"] == pytest.approx(even["spor_prefix"])


def test_a_single_level_has_no_pair_and_the_whole_dwpa_weight() -> None:
    report = score(make_outcomes(["1", "1", "0", "1"]))
    assert values(report) == {
        "hca": 75.0,
        "leaf_accuracy": 75.0,
        "por": 75.0,
        "tor": 0.0,
        "dwpa": 75.0,
        "spor_prefix": 75.0,
        "spor_run": 75.0,
        "tice": 0.0,
        "parse_failure_rate": 0.0,
        "level_accuracy.1": 75.0,
    }
    assert report["accuracy_given_parent_correct"] == report["accuracy_given_parent_wrong"] == {}


def test_a_parse_failure_is_wrong_and_counted_apart() -> None:
    failed = values(score(make_outcomes(["1x", "11", "xx"])))
    wrong = values(score(make_outcomes(["10", "11", "00"])))
    assert failed.pop("parse_failure_rate") == pytest.approx(200 / 3)
    assert wrong.pop("parse_failure_rate") == 0
    assert failed == wrong


def test_tice_is_over_whole_paths() -> None:
    paths, off_tree = ["11", "10", "00", "1x"], [False, True, True, True]
    assert score(make_outcomes(paths, off_tree))["tice"]["value"] == pytest.approx(200 / 3)
    assert score(make_outcomes(["x", "x"], [True, False]))["tice"] is None


def test_a_metric_over_no_samples_is_none() -> None:
    outcomes = Outcomes(
        correct=np.ones((2, 3), dtype=np.bool_),
        parsed=np.ones((2, 3), dtype=np.bool_),
        num_levels=np.array([2, 2]),
        off_tree=np.zeros(2, dtype=np.bool_),
    )
    report = score(outcomes)
    assert report["level_accuracy"]["3"] is None
    assert report["accuracy_given_parent_correct"]["3"] is None
    assert report["accuracy_given_parent_wrong"] == {"2": None, "3": None}


def test_a_rate_says_how_many_samples_it_is_over() -> None:
    """One sample of thirty has a wrong parent."""
    report = score(make_outcomes(["11"] * 29 + ["01"]))
    given_wrong = report["accuracy_given_parent_wrong"]["2"]
    assert (given_wrong["value"], given_wrong["num_samples"]) == (100, 1)
    assert given_wrong["low"] < 25
    assert report["accuracy_given_parent_correct"]["2"]["num_samples"] == 29
    assert report["hca"]["num_samples"] == 30


def test_intervals_match_a_bootstrap_over_single_samples() -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 5, size=300)
    paths = ["".join(rng.choice(list("1110x"), size=length)) for length in lengths]
    off_tree = (rng.random(300) < 0.2).tolist()
    draws: dict[str, list[float]] = {}
    for _ in range(300):
        picked = rng.integers(300, size=300)
        resampled = reference([paths[i] for i in picked], [off_tree[i] for i in picked], 0.95)
        for name, value in resampled.items():
            assert value is not None
            draws.setdefault(name, []).append(value)
    report = flatten(score(make_outcomes(paths, off_tree)))
    for name, estimate in report.items():
        low, high = np.percentile(draws[name], (2.5, 97.5))
        width = high - low
        assert estimate["low"] == pytest.approx(low, abs=0.2 * width), name
        assert estimate["high"] == pytest.approx(high, abs=0.2 * width), name


def test_interval_of_a_binomial_rate() -> None:
    """A rate of 30 % over 1,000 samples has a standard error of 1.449 points."""
    estimate = score(make_outcomes(["1"] * 300 + ["0"] * 700))["hca"]
    assert estimate["value"] == 30
    assert estimate["low"] == pytest.approx(30 - 1.96 * 1.449, abs=0.3)
    assert estimate["high"] == pytest.approx(30 + 1.96 * 1.449, abs=0.3)


def test_the_interval_narrows_with_the_number_of_samples() -> None:
    def width(times: int) -> float:
        estimate = score(make_outcomes(WORKED * times))["por"]
        return float(estimate["high"] - estimate["low"])

    assert width(400) == pytest.approx(width(4) / 10, rel=0.1)


def test_the_result_does_not_depend_on_order_or_padding() -> None:
    report = score(make_outcomes(WORKED))
    assert score(make_outcomes(WORKED[::-1])) == report
    assert score(make_outcomes(WORKED, padding=True)) == report
    stray = make_outcomes(WORKED * 2)
    stray.correct[4, 3] = True  # past the end of one of the two "101"
    assert score(stray) == score(make_outcomes(WORKED * 2))


def test_clusters_of_equal_samples_count_once() -> None:
    """Each path eight times: as clusters they say as much as one of each, as samples far more."""
    repeated = make_outcomes(WORKED * 8)
    clustered = replace(repeated, clusters=np.tile(np.arange(len(WORKED)), 8))
    independent, by_cluster = (flatten(score(each)) for each in (repeated, clustered))
    for name, estimate in by_cluster.items():
        assert estimate["value"] == independent[name]["value"]
        if 0 < estimate["value"] < 100:
            width = estimate["high"] - estimate["low"]
            assert width > 1.5 * (independent[name]["high"] - independent[name]["low"]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct": np.zeros(2, np.bool_)}, r"correct has shape \(2,\)"),
        ({"correct": np.zeros((2, 0), np.bool_)}, r"correct has shape \(2, 0\)"),
        ({"parsed": np.ones((2, 2), np.bool_)}, r"parsed has shape \(2, 2\)"),
        ({"num_levels": np.array([3])}, r"num_levels has shape \(1,\)"),
        ({"off_tree": np.zeros((2, 1), np.bool_)}, r"off_tree has shape \(2, 1\)"),
        ({"correct": np.zeros((2, 3))}, "correct has dtype float64; give bool"),
        ({"num_levels": np.array([3.0, 2.0])}, "num_levels has dtype float64; give integer"),
        ({"num_levels": np.array([3, 0])}, r"num_levels\[1\] is 0; give 1 to 3"),
        ({"num_levels": np.array([4, 3])}, r"num_levels\[0\] is 4; give 1 to 3"),
        ({"parsed": np.eye(2, 3) == 0}, "sample 0, level 1 is correct but not parsed"),
    ],
)
def test_bad_outcomes_are_refused(changes: dict[str, Any], message: str) -> None:
    good = {
        "correct": np.ones((2, 3), np.bool_),
        "parsed": np.ones((2, 3), np.bool_),
        "num_levels": np.array([3, 2]),
        "off_tree": np.zeros(2, np.bool_),
    }
    Outcomes(**good)
    with pytest.raises(ValueError, match=message):
        Outcomes(**{**good, **changes})


def test_padding_may_be_correct_and_not_parsed() -> None:
    assert score(make_outcomes(["10", "1"], padding=True))["parse_failure_rate"]["value"] == 0


def test_score_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="no samples"):
        score(make_outcomes([]))
    for arguments, message in (
        ({"alpha": 1.5}, r"alpha is 1\.5"),
        ({"alpha": float("nan")}, "alpha is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            score(make_outcomes(WORKED), **arguments)
