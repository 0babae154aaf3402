"""Evaluations as they are stored: a complete one, of which tests remove parts."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sekd.analysis.results import Evaluation
from sekd.config import RunConfig, write_resolved

HOSTILE = {
    "<script>alert(1)</script>": ["life", "<b>birds</b>", "<script>alert(1)</script>"],
    '"><img src=x onerror=alert(2)>': ["life", "<b>birds</b>", '"><img src=x onerror=alert(2)>'],
    "{{ 7 * 7 }} | 50% \\ _x_ $y$": ["life", "a & b", "{{ 7 * 7 }} | 50% \\ _x_ $y$"],
    "O'Brien / sons": ["life", "a & b", "O'Brien / sons"],
    "w" * 150: ["life", "a & b", "w" * 150],
}
PARADIGMS = ("joint", "independent", "conditioned")


def rate(value: float, spread: float = 3.0, num_samples: int = 24) -> dict[str, float]:
    return {
        "value": value,
        "low": max(value - spread, 0.0),
        "high": min(value + spread, 100.0),
        "num_samples": num_samples,
    }


PART_RATES = ("por", "tor", "spor_prefix", "spor_run", "dwpa", "tice")
CALIBRATION = {
    "num_answers": 48,
    "confidence": 90.0,
    "accuracy": 70.0,
    "ece": 20.0,
    "bins": [
        {"low": 0.0, "high": 50.0, "count": 0, "confidence": None, "accuracy": None},
        {"low": 50.0, "high": 100.0, "count": 48, "confidence": 90.0, "accuracy": 70.0},
    ],
}
DIAGNOSIS = {
    "num_samples": 24,
    "first_error": {
        "1": {"count": 5, "share": 20.0},
        "2": {"count": 7, "share": 30.0},
        "none": {"count": 12, "share": 50.0},
    },
    "subtrees": [{"truth": "life/birds", "prediction": None, "count": 24}],
    "most_confused": [
        {
            "level": 2,
            "truth": "life/birds/gull",
            "truth_name": "<i>gull</i>",
            "prediction": "life/birds/tern",
            "prediction_name": "tern",
            "count": 3,
            "share": 50.0,
        }
    ],
    "calibration": None,
}
COST = {
    "calls": 2.0,
    "prefill_tokens": 150.0,
    "cached_tokens": 50.0,
    "decode_tokens": 2.0,
    "seconds": 0.5,
    "relative": {"tokens": 1.25, "seconds": None, "unit": "joint"},
}


def row(
    model: str = "base", paradigm: str = "joint", hca: float = 50.0, **other: Any
) -> dict[str, Any]:
    """One row of ``metrics.json``, without a cost and log-probabilities."""
    return {
        "model": model,
        "dataset": "birds",
        "paradigm": paradigm,
        "control": "none",
        "zero_shot": False,
        "num_quarantined": 1,
        "cost": None,
        "num_samples": 24,
        "hca": rate(hca),
        "leaf_accuracy": rate(min(hca + 5, 100.0)),
        **dict.fromkeys(PART_RATES, rate(60.0)),
        "parse_failure_rate": rate(0.0),
        "level_accuracy": {"1": rate(80.0), "2": rate(70.0)},
        "accuracy_given_parent_correct": {"2": rate(75.0)},
        "accuracy_given_parent_wrong": {"2": rate(30.0)},
        "diagnosis": DIAGNOSIS,
    } | other


def comparison(
    a: tuple[str, str], b: tuple[str, str], hca: tuple[float, float, float], dataset: str = "birds"
) -> dict[str, Any]:
    """One entry of ``comparisons``: a minus b."""
    value, low, high = hca
    # McNemar's test agrees with the interval: p = 0.0005 where it leaves out zero.
    only_a, only_b = (12, 0) if low > 0 else (0, 12) if high < 0 else (6, 6)
    agreement = {
        "num_both_right": 10,
        "num_only_a": only_a,
        "num_only_b": only_b,
        "num_both_wrong": 2,
    }
    return {
        "dataset": dataset,
        "a": {"model": a[0], "paradigm": a[1]},
        "b": {"model": b[0], "paradigm": b[1]},
        "num_samples": 24,
        "num_only_in_a": 0,
        "num_only_in_b": 0,
        "differences": {
            "num_samples": 24,
            "hca": {"a": 0.0, "b": 0.0, "value": value, "low": low, "high": high},
            **dict.fromkeys(("leaf_accuracy", *PART_RATES, "parse_failure_rate"), None),
            "level_accuracy": {"1": None},
            "accuracy_given_parent_correct": {},
            "accuracy_given_parent_wrong": {},
        },
        "agreement": {
            "hca": agreement,
            "leaf_accuracy": agreement,
            "level_accuracy": {"1": agreement, "2": agreement},
        },
    }


def calibrated(diagnosis: dict[str, Any]) -> dict[str, Any]:
    return diagnosis | {"calibration": {"all": CALIBRATION}}


def plain(hca: float) -> dict[str, Any]:
    """The plain metrics of the samples of a controlled cell."""
    return {key: value for key, value in row(hca=hca).items() if key != "diagnosis"}


def whole_metrics() -> dict[str, Any]:
    """Everything that an evaluation can have, of one dataset."""
    rows = []
    for model, paradigm, hca in (
        ("base", "joint", 10.0),
        ("base", "independent", 40.0),
        ("base", "conditioned", 80.0),
        ("student", "joint", 70.0),
        ("student", "independent", 20.0),
        ("student", "conditioned", 79.0),
    ):
        diagnosis = DIAGNOSIS if paradigm == "joint" else calibrated(DIAGNOSIS)
        rows.append(row(model, paradigm, hca, diagnosis=diagnosis, cost=COST))
    rows += [
        row("student", "joint", 15.0, control="blind", plain_on_same_samples=plain(68.0)),
        row("base", "conditioned", 16.0, control="blind", plain_on_same_samples=plain(81.0)),
        row("taxonomy", "options", 58.2, control="taxonomy"),
    ]
    comparisons = [
        comparison(("student", "joint"), ("base", "joint"), (60.0, 50.0, 70.0)),
        comparison(("student", "joint"), ("base", "conditioned"), (-10.0, -16.0, -4.0)),
        comparison(("student", "independent"), ("base", "independent"), (-20.0, -30.0, -10.0)),
        comparison(("student", "conditioned"), ("base", "conditioned"), (-1.0, -5.0, 3.0)),
    ]
    return metrics(*rows, comparisons=comparisons)


def metrics(*rows: dict[str, Any], comparisons: Sequence[Any] = ()) -> dict[str, Any]:
    """The content of a ``metrics.json``."""
    return {"rows": list(rows), "comparisons": list(comparisons), "root_is_scored": False}


def read(tmp_path: Path, *rows: dict[str, Any], comparisons: Sequence[Any] = ()) -> Evaluation:
    """Read an evaluation of which there are metrics alone."""
    content = metrics(*rows, comparisons=comparisons)
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    return Evaluation.read(tmp_path)


def prediction_rows(
    taxonomy: Mapping[str, list[str]], models: tuple[str, ...], num_samples: int = 24
) -> list[dict[str, Any]]:
    """Answers, right or wrong by a seeded random choice."""
    rng = random.Random(7)

    def node(names: list[str]) -> str:
        return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)

    paths = list(taxonomy.values())
    rows = []
    for model in models:
        for paradigm in PARADIGMS:
            for index in range(num_samples):
                truth, other = paths[index % len(paths)], paths[(index + 2) % len(paths)]
                for level in (1, 2):
                    answered = rng.choice((truth, truth, other, None))
                    rows.append(
                        {
                            "model": model,
                            "dataset": "birds",
                            "paradigm": paradigm,
                            "control": "none",
                            "sample_id": f"{index:02d}",
                            "level": level,
                            "rank": ("order", "species")[level - 1],
                            "options": [node(path[: level + 1]) for path in (truth, other)],
                            "truth": node(truth[: level + 1]),
                            "prediction": answered and node(answered[: level + 1]),
                        }
                    )
    return rows


def write_run(
    directory: Path,
    taxonomy: Mapping[str, list[str]] = HOSTILE,
    models: tuple[str, ...] = ("base", "student"),
) -> Path:
    """Write a run with everything in it; by default every name in it is hostile."""
    run = directory / "run"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps(whole_metrics()))
    table = pa.Table.from_pylist(prediction_rows(taxonomy, models))
    pq.write_table(table, run / "predictions.parquet")
    (directory / "taxonomy.json").write_text(json.dumps(taxonomy))
    with (directory / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "id"])
        for index in range(24):
            label = list(taxonomy)[index % len(taxonomy)]
            writer.writerow([f"{index}.png", label, f"{index:02d}"])
            Image.new("RGB", (400, 300), (10 * index, 120, 80)).save(directory / f"{index}.png")
    data = {
        "taxonomy": str(directory / "taxonomy.json"),
        "table": str(directory / "images.csv"),
        "id_column": "id",
    }
    config = RunConfig.model_validate_json(
        json.dumps(
            {
                "run_dir": str(run),
                "model": {"path": "</style><script>alert(3)</script>"},
                "data": {"train": data, "birds": data},
                "evaluate": {"datasets": ["birds"]},
            }
        )
    )
    write_resolved(config, run / "evaluate.config.yaml")
    return run
