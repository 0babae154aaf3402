"""Let every file operation of a small run fail once with every errno, and count what it costs.

    python tests/helpers/faulty_disk.py --every 60

The run reads a table, a tar and a Parquet file of images, hashes the images, and does a stage whose
worker reads them and writes Parquet and safetensors; then it is verified. A run in which one
operation failed may stop with one line. It must not set another sample aside than an undisturbed
run, use up an attempt, or revoke one, and the next run must finish with the same content. The last
line has the counts; the exit code is 1 if anything else happened.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import io
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from plans import manifest_of
from safetensors.numpy import save_file

import sekd
from sekd.config import DatasetSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.images import read_and_hash
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import SampleError, SekdError
from sekd.io import faults
from sekd.io.files import names_in, read_many
from sekd.io.hashing import digest
from sekd.io.records import unseal
from sekd.pipeline import work
from sekd.pipeline.garbage import find_stage_garbage
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.names import parse_record_name
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.status import run_status
from sekd.pipeline.verify import verify_stage

ERRNOS = (
    *("EIO", "ESTALE", "EMFILE", "ENFILE", "ETIMEDOUT", "EBUSY", "ENOTCONN", "EAGAIN", "EINTR"),
    *("ECONNRESET", "EHOSTDOWN", "ENODEV", "ENXIO", "EREMOTEIO", "ENOMEM", "ENOLCK"),
    *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM"),
)
NUM_IMAGES = 6
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def build_library(folder: Path) -> Path:
    """Compile the library that makes file operations fail.

    Raises:
        FileNotFoundError: if there is no C compiler.
    """
    library = folder / "faulty_disk.so"
    source = Path(__file__).with_suffix(".c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def write_inputs(folder: Path) -> None:
    """Write a table with images, one of them broken, and a tar and a Parquet file of images."""
    folder.mkdir()
    (folder / "taxonomy.json").write_text('{"gull": ["bird", "gull"], "tern": ["bird", "tern"]}')
    rng = np.random.default_rng(0)
    contents = []
    for number in range(NUM_IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 6, 3), np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
        (folder / f"{number}.png").write_bytes(contents[-1])
    (folder / "broken.png").write_bytes(contents[0][:60])
    names = [*(f"{number}.png" for number in range(NUM_IMAGES)), "broken.png"]
    (folder / "table.csv").write_text("image,label\n" + "".join(f"{n},gull\n" for n in names))
    with tarfile.open(folder / "images.tar", "w") as tar:
        for number, content in enumerate(contents):
            for suffix, data in (("png", content), ("cls", b"tern")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    cells = [{"bytes": content, "path": None} for content in contents]
    table = pa.table({"image": cells, "label": ["gull"] * len(contents)})
    (folder / "hub").mkdir()
    pq.write_table(table, folder / "hub" / "train-00000-of-00001.parquet")


def load_datasets(folder: Path) -> list[Dataset]:
    """Load the three datasets of :func:`write_inputs`."""
    taxonomy = folder / "taxonomy.json"
    specs = {
        "table": DatasetSpec(taxonomy=taxonomy, table=folder / "table.csv"),
        "tar": DatasetSpec(taxonomy=taxonomy, layout="webdataset", images=folder / "images.tar"),
        "cells": DatasetSpec(taxonomy=taxonomy, layout="huggingface", images=folder / "hub"),
    }
    return [Dataset.load(name, spec) for name, spec in specs.items()]


@dataclass(frozen=True)
class Reader:
    """Opens a worker that reads the images of its samples."""

    dataset: Dataset

    def __call__(self) -> Reader:
        return self

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        done, quarantined = {}, []
        for sample in self.dataset.samples.named(shard.sample_ids):
            try:
                image, sha256 = read_and_hash(sample.image)
            except SampleError as error:
                quarantined.append(Quarantined(sample.id, type(error).__name__))
            else:
                done[sample.id] = (sha256, np.asarray(image).astype(np.float32))
            advance(1)
        hashes = [sha256 for sha256, _ in done.values()]
        pq.write_table(pa.table({"id": list(done), "sha256": hashes}), folder / "a.parquet")
        save_file({name: image for name, (_, image) in done.items()}, folder / "s.safetensors")
        files = {"answers": folder / "a.parquet", "states": folder / "s.safetensors"}
        return ShardResult(files, len(done), quarantined)

    def close(self) -> None:
        pass


def run(folder: Path) -> list[str]:
    """Do the whole run; return what is wrong with it."""
    datasets = load_datasets(folder / "inputs")
    wrong = []
    for dataset in datasets:
        hashes = ImageHashes(dataset.samples)
        hashes.compute(lambda _: None)
        inputs = SampleInputs.of(dataset, list(hashes), 4)
        stage = Stage.open(folder / "run" / dataset.name, {"spec": 1}, inputs)
        outcome = run_stage(stage, Reader(dataset), max_attempts=2)
        if outcome.manifest is None:
            wrong.append(f"{dataset.name}: {dict(outcome.failed)}")
        wrong += [f"{damage.path}: {damage.reason}" for damage in verify_stage(stage.directory)]
        list(find_stage_garbage(stage.directory))
    run_status(folder / "run")
    return wrong


def content(folder: Path) -> str:
    """Return a hash of what readers see of all stages; what ran twice shows as well."""
    parts: list[object] = []
    for name in names_in(folder / "run"):
        directories = names_in(folder / "run" / name)
        manifest = manifest_of(folder / "run" / name / directories[0])
        files = [entry["sha256"] for one in manifest.content["shards"] for entry in one["files"]]
        parts.append([name, directories, files, manifest.quarantined])
    return digest(parts)


def spent(folder: Path) -> list[str]:
    """Say which attempts count against their shard, or were revoked."""
    found = []
    for attempts in (folder / "run").glob("*/*/attempts"):
        for name, record in read_many(attempts, names_in(attempts)).items():
            parsed = parse_record_name(name)
            kind = parsed[2] if parsed else "foreign"
            if kind == "revoked":
                found.append(f"{attempts / name}: revoked")
            elif kind == "end" and unseal(record)["status"] in ("failed", "lost"):
                found.append(f"{attempts / name}: {unseal(record)['error']}")
    return found


@dataclass
class Counts:
    """What became of the runs."""

    ends: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)


def in_child(task: Callable[[], str]) -> str:
    """Return what a task says in a process of its own; the task may leave anything behind."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = task()
        except BaseException:  # noqa: BLE001  the parent gets it
            text = f"raised: {traceback.format_exc()}"
        os.write(writer, text.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


class Disk:
    """The library in this process; see ``faulty_disk.c``."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faulty_count.restype = ctypes.c_long

    def count(self) -> int:
        return int(self._library.faulty_count())

    @contextmanager
    def failing(self, root: Path, first: int, number: int) -> Iterator[None]:
        """Let one operation below ``root`` fail, the ``first`` from now on."""
        place = ctypes.c_long(first)
        self._library.faulty_arm(f"{root}/".encode(), place, place, number)
        try:
            yield
        finally:
            self._library.faulty_arm(b"", ctypes.c_long(0), ctypes.c_long(0), 0)


def try_once(disk: Disk, folder: Path, first: int, number: int) -> str:
    """Return how a run with one failing operation ended."""
    with disk.failing(folder, first, number):
        try:
            wrong = run(folder)
        except SekdError as error:
            return f"stopped: {error}"
        except OSError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            return f"OSError: {error} ({place.filename}, line {place.lineno})"
    return f"wrong: {wrong}" if wrong else "finished"


def inject(disk: Disk, inputs: Path, first: int, name: str, expected: str, counts: Counts) -> None:
    """Let one operation fail in a fresh run, then run once more undisturbed, and check it."""
    number = getattr(errno, name)
    with tempfile.TemporaryDirectory(dir=MEMORY) as scratch:
        folder = Path(scratch)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        shutil.copytree(inputs, folder / "inputs")
        # What is older than two seconds is cached, as the images of a real run are.
        for path in (folder / "inputs").iterdir():
            os.utime(path, (1e9, 1e9))
        end = in_child(lambda: try_once(disk, folder, first, number))
        counts.ends[end.split(":")[0]] += 1
        again = in_child(lambda: str(run(folder) or content(folder)))
        losses = [f"attempt spent: {line}" for line in spent(folder)]
    if end.split(":")[0] not in ("finished", "stopped"):
        losses.append(end)
    if again != expected:
        losses.append(f"then: {again}")
    counts.losses += [f"{name} at operation {first}: {loss}" for loss in losses]


def measure(names: Sequence[str], every: int, start: int = 1) -> tuple[int, Counts]:
    """Inject each errno at every ``every``-th operation; return the number of operations too."""
    logging.disable()
    faults.DELAYS = (0.0,) * len(faults.DELAYS)
    work._RETRY_DELAYS = (0.0, 0.0)
    disk, counts = Disk(), Counts()
    with tempfile.TemporaryDirectory(dir=MEMORY) as scratch:
        inputs = Path(scratch) / "inputs"
        in_child(lambda: str(write_inputs(inputs)))  # Arrow's threads do not survive a fork
        for path in inputs.iterdir():
            os.utime(path, (1e9, 1e9))
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")

        def count() -> str:
            with disk.failing(Path(scratch), 0, 0):
                run(Path(scratch))
                return f"{disk.count()} {content(Path(scratch))}"

        text = in_child(count)
        if not text[0].isdigit():
            raise RuntimeError(f"the undisturbed run failed: {text}")
        num_operations, expected = text.split()
        for index, name in enumerate(names):
            for first in range(start + index * every // len(names), int(num_operations) + 1, every):
                inject(disk, inputs, first, name, expected, counts)
            total, num_losses = counts.ends.total(), len(counts.losses)
            print(f"{name}: {total} failing operations so far, {num_losses} losses", flush=True)
    return int(num_operations), counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=60, help="inject at every n-th operation")
    parser.add_argument("--start", type=int, default=1, help="the first operation")
    parser.add_argument("--errnos", default=",".join(ERRNOS), help="names, separated by commas")
    options = parser.parse_args()
    if "FAULTY_DISK" not in os.environ:
        with tempfile.TemporaryDirectory() as scratch:
            folders = [str(Path(sekd.__file__).parents[1]), str(Path(__file__).parent)]
            # Other libraries, such as vLLM, may have set LD_PRELOAD for children of this process.
            libraries = [str(build_library(Path(scratch))), os.environ.get("LD_PRELOAD", "")]
            environment = os.environ | {
                "FAULTY_DISK": "1",
                "LD_PRELOAD": " ".join(filter(None, libraries)),
                "PYTHONPATH": os.pathsep.join(folders),
            }
            command = [sys.executable, *sys.argv]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    started = time.monotonic()
    names = options.errnos.split(",")
    num_operations, counts = measure(names, options.every, options.start)
    for loss in counts.losses:
        print(loss[:2000])
    print(
        f"{counts.ends.total()} failing operations, {len(names)} errnos over {num_operations} "
        f"operations of a run, in {time.monotonic() - started:.0f} s: {dict(counts.ends)}; "
        f"{len(counts.losses)} losses"
    )
    sys.exit(1 if counts.losses else 0)


if __name__ == "__main__":
    main()
