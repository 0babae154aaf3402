"""Kill `sekd predict` over many small images at random moments, and count what it wrote.

    python benchmarks/predict_killed.py [--images 10000] [--kills 3] [--seed 0] [--check]

The command is killed (SIGKILL) and started again until it ends. Then every image must have one row,
with the answer that it gets in memory, and the memory of the last run must not have grown with the
images. The last lines have the figures beside their limits; with --check the exit code is 1 where
one falls short.
"""

from __future__ import annotations

import argparse
import csv
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
from figures import Figure, finish

from sekd.data.image_inputs import list_images, samples_of
from sekd.data.toyworld import write_world
from sekd.stages.predict.run import predict_images
from sekd.stages.predict.setup import PredictionRequest, set_up

SHARD_SIZE = 256


@dataclass(frozen=True)
class Watched:
    """The memory of a run that ended by itself.

    Attributes:
        peaks: number of shards that were done -> the most bytes of memory until the next one was.
            The last entry is of the time when the table was written.
    """

    seconds: float
    peaks: dict[int, int]

    def quarters(self, num_shards: int) -> list[int]:
        """The most bytes in each quarter of the shards of this run, the first shard left out."""
        _, *done = sorted(each for each in self.peaks if each < num_shards)
        bounds = [round(len(done) * quarter / 4) for quarter in range(5)]
        return [max(self.peaks[each] for each in done[a:b]) for a, b in pairwise(bounds)]


class Job:
    """One command over all images, which several runs bring to its end."""

    def __init__(self, folder: Path, num_shards: int) -> None:
        self.num_shards = num_shards
        self.images, self.config = folder / "world/train/images", folder / "world/config.yaml"
        self._output, self._log = folder / "predictions.csv", folder / "log"

    def run(self, kill_at: float | None = None) -> Watched | None:
        """Run the command.

        Args:
            kill_at: number of shards at which it is killed; the part behind the point is how many
                seconds later.
        """
        command = [sys.executable, "-m", "sekd", "predict", self.images, "--run", self.config]
        started, peaks = time.monotonic(), Counter[int]()
        with self._log.open("ab") as log:
            process = psutil.Popen(
                [*map(str, command), "--output", str(self._output)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                num_done = self._num_done()
                if kill_at is not None and num_done >= kill_at:
                    time.sleep(kill_at % 1)
                    process.kill()
                    process.wait()
                    return None
                if process.is_running():
                    peaks[num_done] = max(peaks[num_done], process.memory_info().rss)
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(self._log.read_text("utf-8"))
        return Watched(time.monotonic() - started, dict(peaks))

    def rows(self) -> list[dict[str, str]]:
        """The rows of the table."""
        with self._output.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _num_done(self) -> int:
        return len(list(self._output.with_name("predictions.csv.run").rglob("*.end.json")))


def measure(job: Job, num_images: int, num_kills: int, seed: int) -> list[Figure]:
    """Kill the command at random moments of its first half, let it end, and look at its rows."""
    num_shards = job.num_shards
    rng = random.Random(seed)
    moments = sorted(rng.uniform(0, num_shards / 2) for _ in range(num_kills))
    num_killed = sum(job.run(moment) is None for moment in moments)
    watched = job.run()
    assert watched is not None
    at = ", ".join(f"{moment:.1f}" for moment in moments)
    print(f"killed after {at} of {num_shards} shards; the last run took {watched.seconds:.0f} s")
    memory = watched.quarters(num_shards)
    print(f"memory in each quarter: {', '.join(f'{each / 1e6:.0f} MB' for each in memory)}")
    print(f"while the table was written: {watched.peaks[num_shards] / 1e6:.0f} MB")
    rows = {row["image"]: row for row in job.rows()}
    counts = Counter(row["image"] for row in job.rows())
    spec = set_up(PredictionRequest(run=job.config))
    samples = samples_of(list_images([str(job.images)]), spec.taxonomy)
    assert len(samples) == num_images
    in_memory = predict_images(spec, samples[:SHARD_SIZE])
    num_other = sum(rows[each.image]["leaf"] != each.levels[-1].node for each in in_memory)
    growth = 100 * (max(memory[2:]) / max(memory[:2]) - 1)
    return [
        Figure("kills", num_killed, "kills", num_kills, is_ceiling=False),
        Figure("images without a row", num_images - len(counts), "images", 0),
        Figure("images with several rows", sum(n > 1 for n in counts.values()), "images", 0),
        Figure("rows with an error", sum(bool(row["error"]) for row in rows.values()), "rows", 0),
        Figure(f"other answers in memory, of {SHARD_SIZE}", num_other, "images", 0),
        Figure("growth of memory, second half over first half", growth, "%", 5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of images")
    parser.add_argument("--kills", type=int, default=3, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="another seed kills at other moments")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure falls short")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_world(folder / "world", num_train=options.images, num_test=1, seed=options.seed)
        job = Job(folder, -(-options.images // SHARD_SIZE))
        figures = measure(job, options.images, options.kills, options.seed)
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
