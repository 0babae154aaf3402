"""Kill every command of a whole run at random moments, and compare with a run that nothing hurt.

    python tests/helpers/torture_commands.py --kills 60

The commands are elicit, distill, evaluate, sweep, rounds, benchmark (with a stand-in for lmms-eval)
and predict. Each is killed (SIGKILL) at random moments of its work, and started again until it
ends; between two runs of elicit the dataset grows. The results must be those of the run that
nothing hurt, ``sekd verify`` must find nothing, and no process may be left behind. The last line
has the counts; the exit code is 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import runpy
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from whole_run import COMMANDS, arguments_of, results, verified, write_config

_GIVE_UP_AFTER = 300.0
_NUM_LATE = 3
"""The number of images that the dataset gets after it was elicited once."""


def _run_module(arguments: Sequence[str]) -> None:
    """Run ``python -m sekd`` with its output thrown away."""
    sys.argv = ["sekd", *arguments]
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        runpy.run_module("sekd", run_name="__main__")


def start(*arguments: object) -> BaseProcess:
    """Start a command in a process that has imported the slow libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sekd.stages.distill.train", "sekd.stages.evaluate.run"])
    process = context.Process(target=_run_module, args=([str(each) for each in arguments],))
    process.start()
    return process


def torture_command(
    name: str, config: Path, rng: random.Random, num_kills: int, seconds: float
) -> tuple[int, str]:
    """Kill a command that many times, then let it end.

    Args:
        seconds: what it takes when nothing hurts it. The first kill comes early, the last one late.

    Returns:
        The number of kills, and what went wrong.
    """
    arguments = arguments_of(name, config)
    num_killed = 0
    for number in range(num_kills):
        process = start(*arguments)
        process.join(rng.uniform(0, seconds * (number + 1) / num_kills))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        num_killed += 1
    process = start(*arguments)
    process.join(_GIVE_UP_AFTER)
    if process.exitcode is None:
        process.kill()
        return num_killed, f"{name}: the last run did not end"
    return num_killed, f"{name}: exit code {process.exitcode}" if process.exitcode else ""


def undisturbed(folder: Path) -> dict[str, float]:
    """Run every command in the run ``calm``; return what each took, in seconds.

    Its dataset grows, too: shards of other samples give figures that differ in the last digits.
    """
    config, took = write_config(folder, "calm"), {}
    with without_last_images(folder):
        run_calmly("elicit", config)
    for name in COMMANDS:
        started = time.monotonic()
        run_calmly(name, config)
        took[name] = time.monotonic() - started
    return took


def run_calmly(name: str, config: Path) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: if it fails.
    """
    process = start(*arguments_of(name, config))
    process.join()
    if process.exitcode:
        raise RuntimeError(f"sekd {name}: exit code {process.exitcode}")


def differences_of(folder: Path, run: str) -> Iterator[str]:
    """Say in what a run differs from the calm one, and what it left behind."""
    expected, found = results(folder / "calm"), results(folder / run)
    for name, value in expected.items():
        if found[name] != value:
            yield f"{run}: {name} differ from those of a run that nothing hurt"
    if damages := verified(folder / run):
        yield f"{run}: {damages}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder / "python") in process.cmdline():
                yield f"{run}: left {process.cmdline()}"


def torture_run(
    folder: Path, run: str, took: dict[str, float], rng: random.Random, kills: Counter[str]
) -> list[str]:
    """Kill every command of one run; count the kills; return what went wrong."""
    config, losses = write_config(folder, run), []

    def hurt(name: str) -> None:
        num_kills, loss = torture_command(name, config, rng, 3, took[name])
        kills[name] += num_kills
        print(f"{run}: {name} ended after {num_kills} kills; {kills.total()} in all", flush=True)
        if loss:
            losses.append(loss)

    with without_last_images(folder):
        hurt("elicit")
    for name in COMMANDS:
        hurt(name)
    return losses + list(differences_of(folder, run))


@contextlib.contextmanager
def without_last_images(folder: Path) -> Iterator[None]:
    """Take the last images of the dataset away, so that it grows when they are back."""
    images = sorted((folder / "world" / "train" / "images").rglob("*.png"))[-_NUM_LATE:]
    away = folder / "away"
    away.mkdir()
    for number, image in enumerate(images):
        image.rename(away / f"{number}.png")
    yield
    for number, image in enumerate(images):
        (away / f"{number}.png").rename(image)
    away.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="smallest number of kills")
    parser.add_argument("--seed", type=int, default=0, help="number of the first run")
    options = parser.parse_args()
    started, folder = time.monotonic(), Path(tempfile.mkdtemp())
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    took = undisturbed(folder)
    kills: Counter[str] = Counter()
    losses: list[str] = []
    num_runs = 0
    while kills.total() < options.kills:
        run = f"run {options.seed + num_runs}"
        new = torture_run(folder, run, took, random.Random(run), kills)
        for loss in new:
            print(loss, flush=True)
        losses += new
        num_runs += 1
        print(f"{run}: {dict(kills)} kills, {time.monotonic() - started:.0f} s", flush=True)
    shutil.rmtree(folder)
    print(
        f"{kills.total()} kills over {num_runs} runs ({dict(kills)}) in "
        f"{time.monotonic() - started:.0f} s: {len(losses)} losses"
    )
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    main()
