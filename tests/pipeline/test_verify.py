"""Every flipped byte and every cut is found, and the next run mends that shard alone."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from fakes import Fake

from sekd.pipeline.garbage import find_garbage
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

IDS = [f"sample {i}" for i in range(24)]  # six shards of four


def run(root: Path, worker: Fake | None = None) -> Outcome:
    stage = Stage.open(root, {"spec": 1}, lambda: Plan.split(IDS, 4))
    return run_stage(stage, worker or Fake(), max_attempts=3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "answers"
    assert run(root).manifest
    return root


def test_what_was_written_is_sound(root: Path) -> None:
    (directory,) = root.iterdir()
    assert not list(verify_stage(directory))
    assert not Ledger(directory).revoked()


def damage(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.3:
        path.write_bytes(content[:place])
        return f"{path} cut to {place} of {len(content)} bytes"
    content[place] = (content[place] + rng.randrange(1, 256)) % 256
    path.write_bytes(content)
    return f"{path} changed at byte {place}"


def test_every_flip_and_every_cut_is_found(root: Path) -> None:
    """1,000 of them, each in a file of its own choosing, one at a time."""
    (directory,) = root.iterdir()
    rng = random.Random(0)
    files = sorted(
        path for path in directory.rglob("*") if path.is_file() and "logs" not in str(path)
    )
    assert len(files) == 4 + 6 * 4
    for _ in range(1000):
        path = rng.choice(files)
        before = path.read_bytes()
        what = damage(path, rng)
        found = [each.path for each in verify_stage(directory)]
        assert str(path) in found, what
        path.write_bytes(before)
        for revoked in (directory / "attempts").glob("*.revoked.json"):
            revoked.unlink()
    assert not list(verify_stage(directory))


@pytest.mark.parametrize("kind", ["data", "start", "end", "plan", "fingerprint", "manifest"])
def test_the_next_run_mends_that_shard_alone(root: Path, kind: str) -> None:
    (directory,) = root.iterdir()
    before = Manifest.load(directory)
    pattern = {
        "data": "data/00003-*/answers.parquet",
        "start": "attempts/00003-*.start.json",
        "end": "attempts/00003-*.end.json",
        "plan": "plan-*.parquet",
    }.get(kind, f"{kind}.json")
    (path,) = directory.glob(pattern)
    damage(path, random.Random(1))
    assert list(verify_stage(directory))
    outcome = run(root)
    assert outcome.num_run == (kind in ("data", "start", "end"))
    assert outcome.manifest is not None
    assert outcome.manifest.hashes() == before.hashes()
    assert not list(verify_stage(directory))


def test_a_second_look_does_not_find_the_same_again(root: Path) -> None:
    (directory,) = root.iterdir()
    next(directory.glob("data/00003-*/answers.parquet")).unlink()
    first = [each.reason for each in verify_stage(directory)]
    assert first == ["gone", "names the revoked 00003-001"]
    assert [each.reason for each in verify_stage(directory)] == ["names the revoked 00003-001"]


def test_garbage_is_what_nothing_refers_to(tmp_path: Path) -> None:
    root = tmp_path / "answers"
    assert run(root, Fake({2: "fail"})).manifest is None
    (directory,) = root.iterdir()
    ledger = Ledger(directory)
    lost = ledger.begin(2)
    (lost.folder / "half").write_bytes(b"x" * 100)
    assert not any("00002-002" in str(each.path) for each in find_garbage(directory))  # running
    lost.release()
    (directory / "attempts" / ".00002-003.end.json.0f.tmp").write_text("{")
    garbage = {each.path.name.rpartition("-")[0]: each for each in find_garbage(directory)}
    assert garbage["00002-002"].num_bytes == 100
    assert garbage.keys() >= {"00002-001", "00002-002"}
    assert len(garbage) == 3
    for each in garbage.values():
        shutil.rmtree(each.path) if each.path.is_dir() else each.path.unlink()
    assert not list(find_garbage(directory))
    outcome = run(root)
    assert (outcome.num_run, len(list(verify_stage(directory)))) == (1, 0)
