"""A killed run of a stage resumes: nothing is lost, and nothing that is done is run twice."""

from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plans import manifest_of

from sekd.io.files import names_in
from sekd.io.records import unseal
from sekd.pipeline.names import parse_record_name

# A fork server imports sekd once and forks a new process for each run. It kills the run after
# ``kill_after`` seconds, or the run kills itself at its ``die_at``-th operation on a file below its
# directory: just before the operation, or, with ``leaves_empty`` and an operation that opens a file
# for writing, just after it, when the file exists and is empty.
FORK_SERVER = """
import gc, json, logging, os, signal, sys, time
from pathlib import Path
import pyarrow.dataset  # reading a plan needs it: import it here once instead of in every run
from sekd.data.shards import Quarantined, ShardResult
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage

class Worker:
    def __init__(self, pause):
        self.pause = pause
    def process(self, shard, folder, advance):
        *kept, last = shard.sample_ids
        with (folder / "answers.txt").open("w") as file:
            for sample_id in kept:
                file.write(sample_id + "\\n")
                file.flush()
                time.sleep(self.pause)
                advance(1)
        (folder / "states.bin").write_bytes(bytes([shard.index]) * 100)
        files = {"answers": folder / "answers.txt", "states": folder / "states.bin"}
        return ShardResult(files, len(kept), [Quarantined(last, "blurred")], {"index": shard.index})
    def close(self):
        pass

def run(root, num_samples, pause, die_at, leaves_empty):
    num_operations = 0
    operations = ("open", "os.mkdir", "os.rename", "os.link", "os.remove")
    def watch(event, arguments):
        nonlocal num_operations
        if event in operations and str(arguments[0]).startswith(root):
            num_operations += 1
            if num_operations == die_at:
                if leaves_empty and event == "open" and arguments[2] & os.O_CREAT:
                    os.close(os.open(arguments[0], os.O_CREAT | os.O_TRUNC | os.O_WRONLY))
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    ids = [str(i) for i in range(num_samples)]
    stage = Stage.open(Path(root), {"spec": 1}, SampleInputs.of_ids(ids, 4))
    outcome = run_stage(stage, lambda: Worker(pause), max_attempts=1000)
    assert outcome.manifest, outcome.failed

logging.disable()
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    kill_after = order.pop("kill_after")
    pid = os.fork()
    if not pid:
        try:
            run(**order)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)  # safe if it has ended: its id is kept until waitpid
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
KILLED = -signal.SIGKILL

Launch = Callable[..., int]


@pytest.fixture(scope="module")
def launch() -> Iterator[Launch]:
    """Run the stage in a process of its own; returns its exit code."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", FORK_SERVER], **pipes) as server:

        def order(
            root: Path,
            *,
            num_samples: int,
            pause: float = 0,
            kill_after: float | None = None,
            die_at: int | None = None,
            leaves_empty: bool = False,
        ) -> int:
            arguments = {
                "root": str(root),
                "num_samples": num_samples,
                "pause": pause,
                "kill_after": kill_after,
                "die_at": die_at,
                "leaves_empty": leaves_empty,
            }
            server.stdin.write(json.dumps(arguments) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield order


@pytest.fixture(scope="module")
def undisturbed(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """Content of a run of that many samples that nothing kills."""

    @functools.cache
    def content_of(num_samples: int) -> dict[str, Any]:
        root = tmp_path_factory.mktemp("undisturbed") / "stage"
        assert launch(root, num_samples=num_samples) == 0
        return content(root)

    return content_of


def content(root: Path) -> dict[str, Any]:
    """Everything that a reader of the manifest sees."""
    (directory,) = root.iterdir()
    manifest = manifest_of(directory)
    return {
        "fingerprint": unseal((directory / "fingerprint.json").read_bytes()),
        "num_samples": manifest.num_samples,
        "quarantined": manifest.quarantined,
        "hashes": manifest.fingerprint,
        "figures": manifest.stats("index"),
        "files": {
            role: {shard: path.read_bytes() for shard, path in manifest.files(role).items()}
            for role in ("answers", "states")
        },
    }


def attempts(root: Path) -> tuple[dict[int, int], Counter[int], dict[int, int]]:
    """Per shard: the last attempt begun, the number of those done, and the one that is done."""
    (directory,) = root.iterdir()
    begun, num_done, done = {}, Counter(), {}
    for name in names_in(directory / "attempts"):
        shard, number, kind = parse_record_name(name)
        if kind == "start":
            begun[shard] = max(begun.get(shard, 0), number)
        elif unseal((directory / "attempts" / name).read_bytes())["status"] == "done":
            num_done[shard] += 1
            done[shard] = number
    return begun, num_done, done


def check_recovered(root: Path, expected: dict[str, Any]) -> None:
    assert content(root) == expected
    begun, num_done, done = attempts(root)
    assert num_done == dict.fromkeys(begun, 1)
    assert begun == done  # no attempt follows the one that is done: nothing was run twice


@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_random_moments_resumes_without_loss(
    launch: Launch, undisturbed: Callable[[int], Any], root: Path, seed: int
) -> None:
    rng = random.Random(seed)
    num_kills = 0
    # Six shards sleep 12 ms each and work longer. The moments grow later, for a busy machine.
    while code := launch(
        root, num_samples=24, pause=0.004, kill_after=rng.uniform(0, 0.05 + 0.005 * num_kills)
    ):
        assert code == KILLED
        num_kills += 1
    assert num_kills
    check_recovered(root, undisturbed(24))


@pytest.mark.parametrize("leaves_empty", [False, True])
def test_a_run_killed_at_any_operation_on_a_file_resumes_without_loss(
    launch: Launch, undisturbed: Callable[[int], Any], tmp_path: Path, leaves_empty: bool
) -> None:
    expected = undisturbed(4)
    die_at = 1
    while code := launch(
        root := tmp_path / f"{die_at}", num_samples=4, die_at=die_at, leaves_empty=leaves_empty
    ):
        assert code == KILLED
        # Another process sees a whole manifest or none.
        if list(root.glob("*/manifest-*.json")):
            assert content(root) == expected
        assert launch(root, num_samples=4) == 0
        check_recovered(root, expected)
        die_at += 1
    assert die_at > 25  # the operations were seen: there were 35 when this was written
