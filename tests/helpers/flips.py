"""Damage files of a finished run, one at a time, and see whether a command is misled.

    python tests/helpers/flips.py --flips 1000

The run has been through elicit, distill, evaluate, sweep, rounds, benchmark (with a stand-in for
lmms-eval) and predict. A file is flipped in one byte, cut short, or replaced by another file of its
name. Then the command that reads it next must refuse it, or say that it makes it again and do so,
or give what it gave before. Whatever it does, ``sekd verify`` is asked, too. The last line has the
counts; the exit code is 1 if a command was misled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from whole_run import (
    COMMANDS,
    PREDICTED,
    arguments_of,
    figures,
    sekd,
    verified,
    write_config,
)

from sekd.stages.distill import run as distill_run
from sekd.stages.distill import train as distill_train

_SAID = re.compile(
    r"not what was written|not the file|made again|doing their shards again|does not count|gone"
    r"|not the bytes|not complete|starts anew|damaged|the checkpoint before it counts|not there"
    r"|no finished",
)
"""What a command says of damage that it found."""

Outcome = Literal["refused", "mended", "harmless", "misled"]


@dataclass(frozen=True)
class FinishedRun:
    """A run to be damaged, and its files as they were.

    Attributes:
        student: name of the directory of its student, which is no variant of the sweep.
        expected: name of a reader -> what it gives when nothing is damaged.
    """

    config: Path
    run: Path
    student: str
    contents: Mapping[Path, bytes] = field(default_factory=dict)
    stamps: dict[Path, tuple[int, int, int]] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, folder: Path) -> FinishedRun:
        """Run every command once in a small drawn world."""
        config, run = write_config(folder), folder / "run"
        for name in COMMANDS:
            result = sekd(*arguments_of(name, config))
            if result.exit_code:
                raise RuntimeError(f"sekd {name}: {result.output}")
        contents = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
        student = Path(json.loads(sekd("distill", config, "--json").stdout)["adapter"])
        finished = cls(config, run, student.parent.name, contents)
        finished.restore()
        for name, read in READERS.items():
            code, finished.expected[name], output = read(finished)
            if code:
                raise RuntimeError(f"{name}: {output}")
            finished.restore()
        return finished

    def restore(self) -> None:
        """Put every file back that is not as it was, and remove what is new."""
        for path in sorted(self.run.rglob("*"), reverse=True):  # files before their folders
            if path.is_dir():
                with suppress(OSError):  # it is not empty
                    path.rmdir()
            elif path not in self.contents:
                path.unlink()
        for path, content in self.contents.items():
            if not path.is_file() or _stamp(path) != self.stamps.get(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self.stamps[path] = _stamp(path)

    def damageable(self) -> list[Path]:
        """List the files that somebody may read: all but logs."""
        return [
            path for path in self.contents if "logs" not in path.parts and path.suffix != ".log"
        ]


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


Reading = tuple[int, Any, str]
"""Exit code of a command, what it gave, and what it said."""


class _TrainingReached(Exception):
    """Stands in place of a training: what it would have trained on, or from."""

    def __init__(self, what: Any) -> None:
        super().__init__("a training began")
        self.what = what


@contextmanager
def _instead_of_training() -> Iterator[list[Any]]:
    """Collect what trainings would read, and let them end there."""
    seen: list[Any] = []

    def train(config: Any, taxonomy: Any, shards: Any, *_: Any) -> None:
        files = [path for shard in shards for path in vars(shard).values()]
        seen.append([Path(path).read_bytes() for path in files])
        raise _TrainingReached(None)

    with (
        mock.patch.object(distill_run, "reuse_folder", return_value=None),
        mock.patch.object(distill_run, "train", train),
    ):
        yield seen


def _signals(finished: FinishedRun) -> Reading:
    """``sekd distill`` up to its training: the shards that it would train on."""
    with _instead_of_training() as seen:
        result = sekd("distill", finished.config)
    return (0 if seen else result.exit_code, seen, result.output)


def _student(finished: FinishedRun) -> Reading:
    """``sekd distill``: the adapter, from a checkpoint where it is made again."""
    steps: list[str] = []

    def fit(*arguments: Any) -> None:
        steps.append(str(arguments[4] and arguments[4].path.name))
        raise _TrainingReached(None)

    with mock.patch.object(distill_train, "_fit", fit):
        result = sekd("distill", finished.config)
    if steps:  # it goes on from an earlier checkpoint, as it says
        return 1, None, result.output
    adapters = sorted(finished.run.glob(f"distill/{finished.student}/adapter/adapter_*"))
    return result.exit_code, [path.read_bytes() for path in adapters], result.output


def _evaluation(finished: FinishedRun) -> Reading:
    result = sekd("evaluate", finished.config)
    return result.exit_code, figures(finished.run / "metrics.json"), result.output


def _sweep(finished: FinishedRun) -> Reading:
    result = sekd("sweep", finished.config)
    return result.exit_code, figures(finished.run / "sweep" / "metrics.json"), result.output


def _report(finished: FinishedRun) -> Reading:
    result = sekd("report", finished.run)
    page = finished.run / "report.html"
    return result.exit_code, page.read_bytes() if page.is_file() else None, result.output


def _rounds(finished: FinishedRun) -> Reading:
    result = sekd("rounds", finished.config, *COMMANDS["rounds"])
    adapters = sorted(finished.run.glob("rounds/2/distill/*/adapter/adapter_model.safetensors"))
    return result.exit_code, [path.read_bytes() for path in adapters], result.output


def _benchmark(finished: FinishedRun) -> Reading:
    result = sekd("benchmark", finished.config, "--json")
    lines = result.stdout.splitlines()
    return result.exit_code, lines[-1] if lines else None, result.output


def _predict(finished: FinishedRun) -> Reading:
    result = sekd(*arguments_of("predict", finished.config))
    output = finished.run / PREDICTED
    return result.exit_code, output.read_bytes() if output.is_file() else None, result.output


READERS: Mapping[str, Callable[[FinishedRun], Reading]] = {
    "distill's reading": _signals,
    "distill": _student,
    "evaluate": _evaluation,
    "sweep": _sweep,
    "report": _report,
    "rounds": _rounds,
    "benchmark": _benchmark,
    "predict": _predict,
}


def readers_of(finished: FinishedRun, path: Path) -> list[str]:
    """Name the commands that read a file, by its path below the run."""
    first = path.parts[0]
    if first == "distill" and path.parts[1] != finished.student:
        return ["sweep"]  # of a variant
    if first in ("answers", "states"):
        return ["distill's reading"]
    if first == "distill":
        return ["distill"] if "checkpoints" in path.parts else ["evaluate", "distill"]
    if first == "predictions":
        return ["sweep"] if "soft-only" in path.parts[1] else ["evaluate"]
    if first.startswith(PREDICTED):
        return ["predict"]
    return [{"sweep": "sweep", "rounds": "rounds", "benchmark": "benchmark"}.get(first, "report")]


@dataclass(frozen=True)
class Flip:
    """A damage, and what came of it."""

    path: Path
    description: str
    outcome: Outcome
    is_verified: bool


def flip_one(finished: FinishedRun, path: Path, rng: random.Random) -> Flip:
    """Damage a file, let the commands that read it run, and put everything back."""
    description = _damage(finished, path, rng)
    is_verified = bool(verified(finished.run))
    for revoked in finished.run.rglob("*.revoked.json"):
        revoked.unlink()  # a reader must find it without the help of verify
    outcomes: list[Outcome] = []
    for name in readers_of(finished, path.relative_to(finished.run)):
        code, given, output = READERS[name](finished)
        if code:
            outcomes.append("refused" if _SAID.search(output) else "misled")
        elif given != finished.expected[name]:
            outcomes.append("misled")
        else:
            outcomes.append("mended" if _SAID.search(output) else "harmless")
        if outcomes[-1] == "misled":
            description += f"; {name}: exit code {code}: {output[-400:]}"
    finished.restore()
    order: list[Outcome] = ["misled", "refused", "mended", "harmless"]
    return Flip(path, description, min(outcomes, key=order.index), is_verified)


def _damage(finished: FinishedRun, path: Path, rng: random.Random) -> str:
    content = bytearray(finished.contents[path])
    namesakes = [
        other
        for other in finished.contents
        if other.name == path.name and finished.contents[other] != finished.contents[path]
    ]
    kind = rng.choice(["flip", "cut", "swap"])
    if kind == "swap" and namesakes:
        other = rng.choice(namesakes)
        path.write_bytes(finished.contents[other])
        return f"{path}: replaced by {other}"
    place = rng.randrange(max(1, len(content)))
    if kind == "cut" or not content:
        path.write_bytes(content[:place])
        return f"{path}: cut to {place} of {len(content)} bytes"
    content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{path}: flipped at byte {place}"


def flips_of(finished: FinishedRun, num_flips: int, seed: int = 0) -> Iterator[Flip]:
    """Damage every file in turn, in a random order, until there were that many."""
    rng = random.Random(seed)
    order: list[Path] = []
    for _ in range(num_flips):
        if not order:
            order = finished.damageable()
            rng.shuffle(order)
        yield flip_one(finished, order.pop(), rng)


def one_of_each_kind(finished: FinishedRun, num_flips: int) -> list[Path]:
    """Choose files so that each kind of name is among them as often as any other."""
    by_kind: dict[str, list[Path]] = {}
    for path in finished.damageable():
        relative = path.relative_to(finished.run)
        kind = re.sub(r"[0-9a-f]{16,}|\d+", "*", f"{relative.parts[0]} {path.name}")
        by_kind.setdefault(kind, []).append(path)
    rng, chosen = random.Random(0), []
    while len(chosen) < num_flips:
        chosen += [rng.choice(paths) for paths in by_kind.values()]
    return chosen[:num_flips]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000, help="number of damages")
    parser.add_argument("--seed", type=int, default=0, help="of the random damages")
    options = parser.parse_args()
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    num_verified, files = 0, set()
    scratch = Path(tempfile.mkdtemp())
    os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
    finished = FinishedRun.build(scratch)
    print(f"{len(finished.damageable())} files, {time.monotonic() - started:.0f} s", flush=True)
    for number, flip in enumerate(flips_of(finished, options.flips, options.seed), 1):
        outcomes[flip.outcome] += 1
        num_verified += flip.is_verified
        files.add(flip.path)
        if flip.outcome == "misled":
            print(flip.description, flush=True)
        if number % 50 == 0:
            print(f"{number}: {dict(outcomes)}, {time.monotonic() - started:.0f} s", flush=True)
    shutil.rmtree(scratch)
    print(
        f"{outcomes.total()} flips, cuts and swaps of {len(files)} files in "
        f"{time.monotonic() - started:.0f} s: {outcomes['refused']} refused, {outcomes['mended']} "
        f"mended, {outcomes['harmless']} harmless, {outcomes['misled']} misled; sekd verify found "
        f"{num_verified}"
    )
    sys.exit(1 if outcomes["misled"] else 0)


if __name__ == "__main__":
    main()
