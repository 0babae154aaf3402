"""Diagnosis: first errors, confusions, calibration against plain Python, and paired comparisons."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sekd.analysis import calibration, comparison, diagnosis
from sekd.analysis.comparison import compare_paths, mcnemar_test
from sekd.analysis.paths import paths_of
from sekd.data.taxonomy import Taxonomy

Rows = Callable[[dict[str, str]], pa.Table]
SAMPLES = {
    "1": "a: x a",
    "2": "a: x b",
    "3": "a: x b",
    "4": "a: y a",
    "5": "a: - a",
    "6": "c: y c",
    "7": "z: x",
    "8": "z: -",
}


def diagnose(rows: pa.Table, tree: Taxonomy) -> dict[str, Any]:
    """A cell's diagnosis as JSON, which reads back as what it was."""
    found = diagnosis.diagnose(paths_of(rows, tree), rows)
    content = found.to_json()
    assert diagnosis.Diagnosis.from_json(content) == found
    return content


def calibrate(rows: pa.Table) -> dict[str, Any] | None:
    found = calibration.measure_calibration(rows)
    return found and found.to_json()


def compare(
    a: pa.Table, b: pa.Table, tree: Taxonomy, *, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Two cells side by side as JSON, which reads back as what it was."""
    found = compare_paths(
        paths_of(a, tree), paths_of(b, tree), num_bootstrap=num_bootstrap, seed=seed
    )
    content = found.to_json()
    assert comparison.PairedComparison.from_json(content) == found
    return content


def test_a_diagnosis_counts_first_errors_subtrees_and_confusions(
    tree: Taxonomy, rows_of: Rows
) -> None:
    found = diagnose(rows_of(SAMPLES), tree)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["num_samples"] == 8
    assert found["first_error"] == {
        "1": {"count": 4, "share": 50},
        "2": {"count": 2, "share": 25},
        "none": {"count": 2, "share": 25},
    }
    assert found["subtrees"] == [
        {"truth": "r/x", "prediction": None, "count": 1},
        {"truth": "r/x", "prediction": "r/x", "count": 3},
        {"truth": "r/x", "prediction": "r/y", "count": 1},
        {"truth": "r/y", "prediction": "r/y", "count": 1},
        {"truth": "r/z", "prediction": None, "count": 1},
        {"truth": "r/z", "prediction": "r/x", "count": 1},
    ]
    first, *others = found["most_confused"]
    assert first == {
        "level": 2,
        "truth": "r/x/a",
        "truth_name": "a",
        "prediction": "r/x/b",
        "prediction_name": "b",
        "count": 2,
        "share": 40,
    }
    assert [(each["truth"], each["prediction"]) for each in others] == [
        ("r/x", "r/y"),
        ("r/z", "r/x"),
    ]
    assert found["calibration"] is None  # the joint paradigm has no log-probabilities


def test_every_field_is_documented(tree: Taxonomy, rows_of: Rows) -> None:
    text = (Path(__file__).parents[2] / "docs/formats.md").read_text("utf-8")
    rows = rows_of(SAMPLES)
    descended = rows.drop_columns(["path_logprob"]).append_column(
        "path_logprob", pa.array([-1.0] * len(rows))
    )
    for heading, found in (
        ("diagnosis", diagnose(descended, tree)),
        ("comparison", compare(rows, rows, tree, num_bootstrap=1, seed=0)),
    ):
        table = text.split(f"| {heading} | meaning |")[1].split("\n\n")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(found)


def with_logprobs(rows: pa.Table, rng: random.Random) -> pa.Table:
    """Log-probabilities that sum to less than one, as they do over a whole vocabulary."""
    logprobs = []
    for row in rows.to_pylist():
        values = [rng.uniform(-5, 0) for _ in row["options"]]
        if row["prediction"] is not None:
            chosen = row["options"].index(row["prediction"])
            best = values.index(max(values))
            values[chosen], values[best] = values[best], values[chosen]
        logprobs.append(values)
    place = rows.schema.get_field_index("option_logprobs")
    kind = rows.schema.field(place)
    return rows.set_column(place, kind, pa.array(logprobs, kind.type))


def by_hand(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Reliability over the 15 bins, answer by answer."""
    answers = []
    for row in rows:
        weights = [math.exp(value) for value in np.float32(row["option_logprobs"]).tolist()]
        share = weights[row["options"].index(row["prediction"])] / sum(weights)
        answers.append((share, row["prediction"] == row["truth"]))
    bins, ece = [], 0.0
    for number in range(15):
        inside = [a for a in answers if number / 15 < a[0] <= (number + 1) / 15]
        confidence = sum(a[0] for a in inside) / len(inside) if inside else None
        accuracy = sum(a[1] for a in inside) / len(inside) if inside else None
        if inside:
            ece += len(inside) / len(answers) * abs(confidence - accuracy)
        bins.append((len(inside), confidence, accuracy))
    return {"num_answers": len(answers), "ece": ece, "bins": bins}


def test_calibration_matches_plain_python(tree: Taxonomy, rows_of: Rows) -> None:
    rng = random.Random(0)
    samples = {}
    for i in range(300):
        leaf = rng.choice("abc")
        samples[str(i)] = f"{leaf}: {rng.choice('xyz-')} {rng.choice('abc')}"
    rows = with_logprobs(rows_of(samples), rng)
    found = calibrate(rows)
    assert found is not None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    parsed = [row for row in rows.to_pylist() if row["prediction"] is not None]
    assert list(found) == ["all", "1", "2"]
    for level, reliability in found.items():
        expected = by_hand([r for r in parsed if level in ("all", str(r["level"]))])
        assert reliability["num_answers"] == expected["num_answers"]
        assert reliability["ece"] == pytest.approx(100 * expected["ece"])
        for each, (count, confidence, accuracy) in zip(
            reliability["bins"], expected["bins"], strict=True
        ):
            assert each["count"] == count
            if count:
                assert each["confidence"] == pytest.approx(100 * confidence)
                assert each["accuracy"] == pytest.approx(100 * accuracy)
            else:
                assert each["confidence"] is each["accuracy"] is None


def test_answers_without_a_confidence_are_left_out(tree: Taxonomy, rows_of: Rows) -> None:
    rows = with_logprobs(rows_of({str(i): "z: z" for i in range(5)}), random.Random(0))
    place = rows.schema.get_field_index("option_logprobs")
    kind = rows.schema.field(place)
    inf = math.inf
    values = [[-1.0, -2.0, 0.0], None, [], [-inf, -inf, -inf], [math.nan, 0.0, 0.0]]
    options = [["r/x", "r/y", "r/z"]] * 2 + [[]] + [["r/x", "r/y", "r/z"]] * 2
    rows = rows.set_column(place, kind, pa.array(values, kind.type))
    place = rows.schema.get_field_index("options")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(options))
    found = calibrate(rows)
    assert found is not None
    assert found["all"]["num_answers"] == 1
    assert found["all"]["confidence"] == pytest.approx(100 / (1 + math.exp(-1) + math.exp(-2)))
    assert calibrate(rows.slice(1)) is None
    wrong = rows.set_column(place, rows.schema.field(place), pa.array([["r/z"]] * 5))
    with pytest.raises(ValueError, match=r"sample '4', level 1: 3 log-probabilities of 1 options"):
        calibrate(wrong)


def test_two_cells_are_compared_sample_by_sample(tree: Taxonomy, rows_of: Rows) -> None:
    a = rows_of(SAMPLES | {"only a": "z: z"})
    right = {"8": "z: z", "7": "z: z", "6": "c: y c", "4": "a: x a", "3": "a: x a", "9": "z: z"}
    b = rows_of(right | {"2": "a: x b", "5": "a: x b", "1": "a: x b"})
    found = compare(a, b, tree, num_bootstrap=50, seed=0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["num_samples"], found["num_only_in_a"], found["num_only_in_b"]) == (8, 1, 1)
    hca = found["differences"]["hca"]
    assert (hca["a"], hca["b"], hca["value"]) == (25, 62.5, -37.5)
    assert hca["low"] < -37.5 < 0 < hca["high"]  # McNemar's p is 0.375
    agreement = found["agreement"]
    counts = {
        name: agreement["hca"][f"num_{name}"]
        for name in ("both_right", "only_a", "only_b", "both_wrong")
    }
    assert counts == {"both_right": 1, "only_a": 1, "only_b": 4, "both_wrong": 2}
    assert agreement["hca"]["only_b"] == 50
    assert agreement["hca"]["mcnemar"] == {"p_value": 0.375, "method": "exact"}
    assert agreement["level_accuracy"]["2"]["num_samples"] == 6
    assert agreement["level_accuracy"]["2"]["num_only_a"] == 2
    assert agreement["leaf_accuracy"]["num_only_b"] == 3

    mirrored = compare(b, a, tree, num_bootstrap=50, seed=0)
    for name, estimate in found["differences"].items():
        if isinstance(estimate, dict) and "value" in estimate:
            assert mirrored["differences"][name]["value"] == pytest.approx(-estimate["value"])


def test_a_cell_does_not_differ_from_itself(tree: Taxonomy, rows_of: Rows) -> None:
    found = compare(rows_of(SAMPLES), rows_of(SAMPLES), tree, num_bootstrap=50, seed=0)
    for estimate in found["differences"].values():
        if isinstance(estimate, dict) and "value" in estimate:
            assert estimate["value"] == 0
            assert (
                -60 < estimate["low"] == -estimate["high"] < 0
            )  # few pairs, none of which differs
    assert found["agreement"]["hca"]["mcnemar"]["p_value"] == 1


def test_cells_without_shared_samples_or_with_other_truths_are_not_compared(
    tree: Taxonomy, rows_of: Rows
) -> None:
    with pytest.raises(ValueError, match="no sample is in both"):
        compare(rows_of({"1": "z: z"}), rows_of({"2": "z: z"}), tree, num_bootstrap=1, seed=0)
    for other in ("a: x a", "b: x a"):
        with pytest.raises(
            ValueError, match=r"1 samples have another truth in a than in b, e\.g\. '1'"
        ):
            compare(
                rows_of({"1": "c: y c" if other[0] == "b" else "z: z", "2": "a: x a"}),
                rows_of({"1": other, "2": "a: x a"}),
                tree,
                num_bootstrap=1,
                seed=0,
            )


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 6, 2 / 64),
        (5, 5, 1.0),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int, p_value: float) -> None:
    test = mcnemar_test(only_a, only_b)
    assert (test.p_value, test.method) == (pytest.approx(p_value), "exact")


def test_mcnemar_uses_the_normal_approximation_for_many_samples() -> None:
    exact, normal = mcnemar_test(460, 540), mcnemar_test(461, 540)
    assert (exact.method, normal.method) == ("exact", "normal")
    assert normal.p_value == pytest.approx(exact.p_value, rel=0.1)
    assert mcnemar_test(600, 600).p_value == 1
    assert mcnemar_test(0, 100_000).p_value == 0
