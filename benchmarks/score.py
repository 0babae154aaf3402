"""Time and memory of `sekd score`: a million samples of seven levels, a thousand bootstrap draws.

    python benchmarks/score.py [--check]

The last lines show each figure beside its limit. With --check the exit code is 1 if a figure falls
short.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, finish

NUM_SAMPLES = 1_000_000
NUM_LEVELS = 7
BRANCHING = 4  # 16,384 leaves, 21,844 nodes below the root


def write_taxonomy(path: Path) -> list[np.ndarray]:
    """Write a tree whose names do not tell the parent; return the node ids of each level."""
    ids, paths = ["life"], [("life",)]
    by_level = []
    for level in range(1, NUM_LEVELS + 1):
        names = [f"taxon {level}-{i}" for i in range(BRANCHING**level)]
        ids = [f"{ids[i // BRANCHING]}/{name}" for i, name in enumerate(names)]
        paths = [(*paths[i // BRANCHING], name) for i, name in enumerate(names)]
        by_level.append(np.array(ids))
    path.write_text(json.dumps({path[-1]: path for path in paths}), encoding="utf-8")
    return by_level


def write_predictions(path: Path, by_level: list[np.ndarray]) -> float:
    """Write every level of every sample as a row; return the HCA in percent.

    Seven in eight answers are right, one in fifty cannot be parsed, and rows are in random order.
    """
    rng = np.random.default_rng(0)
    leaves = rng.integers(BRANCHING**NUM_LEVELS, size=NUM_SAMPLES)
    is_right = np.ones(NUM_SAMPLES, dtype=bool)
    tables = []
    for level, ids in enumerate(by_level, start=1):
        truth = leaves // BRANCHING ** (NUM_LEVELS - level)
        guess = rng.integers(len(ids), size=NUM_SAMPLES)
        prediction = np.where(rng.random(NUM_SAMPLES) < 7 / 8, truth, guess)
        is_parsed = rng.random(NUM_SAMPLES) < 49 / 50
        is_right &= (prediction == truth) & is_parsed
        tables.append(
            pa.table(
                {
                    "sample_id": [f"test/{sample:07d}.jpg" for sample in range(NUM_SAMPLES)],
                    "level": pa.array(np.full(NUM_SAMPLES, level), pa.int16()),
                    "truth": pa.array(ids).take(pa.array(truth)),
                    "prediction": pa.array(ids).take(pa.array(prediction, mask=~is_parsed)),
                }
            )
        )
    order = rng.permutation(NUM_SAMPLES * NUM_LEVELS)
    table = pa.concat_tables(tables)
    columns = {
        name: table[name].dictionary_encode().combine_chunks() for name in table.column_names
    }
    pq.write_table(pa.table(columns).take(pa.array(order)), path)
    return float(100 * is_right.mean())


def write(taxonomy: Path, predictions: Path) -> float:
    return write_predictions(predictions, write_taxonomy(taxonomy))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure falls short")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        taxonomy, predictions = Path(folder) / "taxonomy.json", Path(folder) / "predictions.parquet"
        # In another process, because the memory of a parent counts in the peak of its child.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            hca = pool.submit(write, taxonomy, predictions).result()
        print(f"{predictions.stat().st_size / 1e6:.0f} MB of predictions")
        command = [sys.executable, "-m", "sekd", "score", str(predictions), "--json"]
        with (Path(folder) / "score.json").open("w+", encoding="utf-8") as output:
            started = time.monotonic()
            process = subprocess.Popen([*command, "--taxonomy", str(taxonomy)], stdout=output)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
            assert status == 0
            output.seek(0)
            content = json.load(output)
    peak = usage.ru_maxrss / 1e6
    print(f"{usage.ru_utime + usage.ru_stime:.1f} s of CPU")
    assert content["num_samples"] == NUM_SAMPLES
    assert abs(content["hca"]["value"] - hca) < 1e-9
    title = f"sekd score, {NUM_SAMPLES:,} samples of {NUM_LEVELS} levels"
    finish(
        [Figure(title, seconds, "s", 30), Figure("  peak memory", peak, "GB", 4)],
        check=options.check,
    )


if __name__ == "__main__":
    main()
