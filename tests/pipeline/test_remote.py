"""A stage on a remote store: a real server that speaks S3, on loopback."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import Fake
from plans import manifest_of
from store import s3_store

from sekd.config import ShardRuntime
from sekd.io.files import create_exclusively, names_in, remove, sizes_below, write_atomically
from sekd.io.folders import find_folder, publish_folder
from sekd.io.locations import Location, to_location
from sekd.pipeline.executors import open_executor
from sekd.pipeline.garbage import find_stage_garbage
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.status import run_status
from sekd.pipeline.verify import verify_stage

IDS = [f"sample {i}" for i in range(8)]  # four shards of two


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with s3_store() as url:
        yield url


@pytest.fixture
def place(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return to_location(f"{bucket}/{tmp_path.name}")


def run(place: Location, fake: Fake, kind: str = "inline") -> Outcome:
    stage = Stage.open(place / "answers", {"spec": 1}, SampleInputs.of_ids(IDS, 2))
    executor = open_executor(ShardRuntime(executor=kind, workers=2))
    return run_stage(stage, fake, max_attempts=3, executor=executor)


@pytest.mark.parametrize("kind", ["inline", "process"])
def test_a_stage_on_a_store_has_the_content_of_a_local_one(
    place: Location, tmp_path: Path, kind: str
) -> None:
    assert run(place, Fake({1: "fail"}), kind).failed == {1: "ShardError: no luck"}
    (status,) = run_status(place)
    assert status.shards == {"done": 3, "failed": 1}
    assert status.errors[0]["log"].startswith("s3://")
    outcome = run(place, Fake(), kind)
    assert outcome.num_run == 1
    here = run(tmp_path, Fake()).manifest
    assert outcome.manifest is not None
    assert here is not None
    assert outcome.manifest.fingerprint == here.fingerprint
    directory = outcome.stage.directory
    assert manifest_of(directory) == outcome.manifest
    copies = outcome.manifest.files("answers")
    assert {i: p.read_bytes() for i, p in copies.items()} == {
        i: p.read_bytes() for i, p in here.files("answers").items()
    }
    assert not list(verify_stage(directory))


def test_a_folder_that_was_uploaded_and_not_committed_is_garbage(place: Location) -> None:
    directory = run(place, Fake()).stage.directory
    assert not list(find_stage_garbage(directory))
    write_atomically(directory / "data" / "00001-002-0f3a2b" / "half", b"x" * 100)
    (garbage,) = find_stage_garbage(directory)
    assert (garbage.path.name, garbage.num_bytes) == ("00001-002-0f3a2b", 100)
    remove(garbage.path)
    assert not list(find_stage_garbage(directory))
    assert not list(verify_stage(directory))


def test_of_two_creators_of_a_name_the_second_fails(place: Location) -> None:
    create_exclusively(place / "a", "first")
    with pytest.raises(FileExistsError):
        create_exclusively(place / "a", "second")
    with pytest.raises(FileExistsError):  # where the look before it came too early
        place.fs.pipe_file(f"{place.path}/a", b"third", mode="create")
    assert (place / "a").read_bytes() == b"first"
    assert names_in(place) == ["a"]
    assert names_in(place / "nothing") == []


def test_damage_on_a_store_is_found_and_repaired(place: Location) -> None:
    manifest = run(place, Fake()).manifest
    assert manifest is not None
    directory = manifest.directory
    rng = random.Random(0)
    for pattern in ("data/00002", "attempts/00001", "manifest"):
        names = [name for name in sizes_below(directory) if name.startswith(pattern)]
        path = directory / rng.choice(sorted(names))
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1
        write_atomically(path, bytes(content))
        assert str(path) in [damage.path for damage in verify_stage(directory)]
        outcome = run(place, Fake())
        assert outcome.num_run == (0 if pattern == "manifest" else 1)
        assert not list(verify_stage(directory))


def test_a_dead_attempt_is_tried_again(place: Location) -> None:
    stage = Stage.open(place / "answers", {"spec": 1}, SampleInputs.of_ids(IDS, 2))
    stage.ledger.begin(0).release()
    outcome = run(place, Fake())
    assert outcome.manifest is not None
    assert outcome.manifest.attempts == [(0, 2), (1, 1), (2, 1), (3, 1)]
    assert not Ledger(stage.directory).unfinished()


def test_a_folder_on_a_store_is_found_exactly_if_its_record_exists(
    place: Location, tmp_path: Path
) -> None:
    (tmp_path / "adapter" / "deep").mkdir(parents=True)
    (tmp_path / "adapter" / "deep" / "weights").write_bytes(b"123")
    assert find_folder(place, "adapter") is None
    publish_folder(tmp_path, place, "adapter")
    found = find_folder(place, "adapter")
    assert found is not None
    assert (found / "deep" / "weights").read_bytes() == b"123"
    remove(place / "adapter.record.json")
    assert find_folder(place, "adapter") is None
