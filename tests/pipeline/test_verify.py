"""Every flipped byte and every cut is found, and the next run repairs only that shard."""

from __future__ import annotations

import errno
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import Fake
from plans import manifest_of

from sekd.data.shards import Shard, ShardResult
from sekd.io import faults
from sekd.io.faults import StorageError
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

IDS = [f"sample {i}" for i in range(24)]  # six shards of four


def run(root: Path, worker: Fake | None = None) -> Outcome:
    stage = Stage.open(root, {"spec": 1}, SampleInputs.of_ids(IDS, 4))
    return run_stage(stage, worker or Fake(), max_attempts=3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "answers"
    assert run(root).manifest
    return root


def test_a_run_that_nothing_disturbed_has_no_damage(root: Path) -> None:
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
    """Damage 1,000 randomly chosen files, one at a time."""
    (directory,) = root.iterdir()
    rng = random.Random(0)
    files = sorted(
        path for path in directory.rglob("*") if path.is_file() and "logs" not in str(path)
    )
    assert len(files) == 4 + 6 * 4
    for _ in range(1000):
        path = rng.choice(files)
        before = path.read_bytes()
        description = damage(path, rng)
        assert str(path) in [found.path for found in verify_stage(directory)], description
        path.write_bytes(before)
        for revoked in (directory / "attempts").glob("*.revoked.json"):
            revoked.unlink()
    assert not list(verify_stage(directory))


@pytest.mark.parametrize("kind", ["data", "start", "end", "plan", "fingerprint", "manifest"])
def test_the_next_run_repairs_only_the_damaged_shard(root: Path, kind: str) -> None:
    (directory,) = root.iterdir()
    before = manifest_of(directory)
    pattern = {
        "data": "data/00003-*/answers.parquet",
        "start": "attempts/00003-*.start.json",
        "end": "attempts/00003-*.end.json",
        "plan": "plan-*.parquet",
        "manifest": "manifest-*.json",
    }.get(kind, f"{kind}.json")
    (path,) = directory.glob(pattern)
    damage(path, random.Random(1))
    assert list(verify_stage(directory))
    outcome = run(root)
    assert outcome.num_run == (1 if kind in ("data", "start", "end") else 0)
    assert outcome.manifest is not None
    assert outcome.manifest.fingerprint == before.fingerprint
    assert not list(verify_stage(directory))


def safetensors(num_bytes: int) -> bytes:
    """A file whose header describes one tensor of eight bytes, with that many bytes of data."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "block_0": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(num_bytes)


@dataclass(frozen=True)
class WorkerOfBytes:
    """Writes the same bytes for each shard."""

    name: str
    content: bytes

    def __call__(self) -> WorkerOfBytes:
        return self

    def process(self, shard: Shard, folder: Path, advance: object) -> ShardResult:
        (folder / self.name).write_bytes(self.content)
        return ShardResult({"states": folder / self.name}, len(shard.sample_ids))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("states.safetensors", safetensors(8), None),
        ("states.safetensors", safetensors(7), "its tensors end elsewhere than the file"),
        ("states.safetensors", b"no header", "does not open: "),
        ("answers.parquet", b"PAR1", "does not open: "),
        ("notes.txt", b"\xff", None),
    ],
)
def test_a_file_that_was_committed_but_cannot_be_opened_is_damaged(
    tmp_path: Path, name: str, content: bytes, reason: str | None
) -> None:
    stage = Stage.open(tmp_path / "states", {"spec": 1}, SampleInputs.of_ids(IDS, len(IDS)))
    run_stage(stage, WorkerOfBytes(name, content), max_attempts=1)
    damages = list(verify_stage(stage.directory))
    if reason is None:
        assert damages == []
    else:
        assert Path(damages[0].path).name == name
        assert damages[0].reason.startswith(reason)
        assert stage.ledger.revoked() == {(0, 1)}


def test_a_revoked_attempt_is_not_verified_again(root: Path) -> None:
    (directory,) = root.iterdir()
    next(directory.glob("data/00003-*/answers.parquet")).unlink()
    reasons = [damage.reason for damage in verify_stage(directory)]
    assert reasons == ["gone", "names the revoked 00003-001"]
    reasons = [damage.reason for damage in verify_stage(directory)]
    assert reasons == ["names the revoked 00003-001"]


@pytest.mark.parametrize("name", ["EIO", "EMFILE", "EACCES", "ESTALE"])
@pytest.mark.parametrize("pattern", ["attempts/*.end.json", "data/*/answers.parquet"])
def test_a_file_that_cannot_be_read_says_nothing_about_its_attempt(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, pattern: str
) -> None:
    stage = run(root).stage
    victims = {str(path) for path in stage.directory.glob(pattern)}
    read = io.open

    def fail(path: object, *arguments: object, **keywords: object) -> object:
        if str(path) in victims:
            raise OSError(getattr(errno, name), "not now", str(path))
        return read(path, *arguments, **keywords)  # type: ignore[call-overload]

    monkeypatch.setattr(faults, "DELAYS", (0.0,))
    with monkeypatch.context() as patch:
        patch.setattr(io, "open", fail)
        patch.setattr("builtins.open", fail)
        with pytest.raises(StorageError, match="not now"):
            list(verify_stage(stage.directory))
    assert not stage.ledger.revoked()
    assert not list(verify_stage(stage.directory))
