"""Hashes of images: right, and read once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sekd.config import DatasetSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.samples import Samples, load_samples
from sekd.data.taxonomy import Taxonomy
from sekd.io import faults
from sekd.io.faults import StorageError
from sekd.io.hashing import hash_file
from sekd.io.locations import cache_directory

LEAVES = Taxonomy.from_paths({"a": ["top", "a"], "b": ["top", "b"]})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sekd.data.image_hashes._SETTLED_AFTER_NS", 0)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    table = tmp_path / "images" / "t.csv"
    table.parent.mkdir()
    names = [f"{i}.png" for i in range(5)] + ["missing.png"]
    for name in names[:5]:
        (table.parent / name).write_bytes(name.encode())
    (tmp_path / "elsewhere.png").write_bytes(b"elsewhere")
    names.append(str(tmp_path / "elsewhere.png"))
    table.write_text("\n".join(["image", *names]), encoding="utf-8")
    return load_samples(DatasetSpec(taxonomy=Path("t.json"), table=table), LEAVES)


def compute(samples: Samples) -> tuple[int, list[str | None]]:
    hashes, advanced = ImageHashes(samples), []
    hashes.compute(advanced.append)
    assert sum(advanced) == hashes.num_unknown
    return hashes.num_unknown, list(hashes)


def test_hashes_are_those_of_the_files_which_are_read_once(samples: Samples) -> None:
    paths = [sample.image.path for sample in samples]
    expected = [hash_file(path) if path.exists() else None for path in paths]
    assert compute(samples) == (6, expected)
    assert compute(samples) == (0, expected)
    assert compute(samples[2:4]) == (0, expected[2:4])


def test_only_changed_images_are_read_again(samples: Samples) -> None:
    compute(samples)
    samples[1].image.path.write_bytes(b"1.PNG")  # as many bytes as before
    stat = samples[1].image.path.stat()
    os.utime(samples[1].image.path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10))
    samples[5].image.path.write_bytes(b"found")
    samples[0].image.path.unlink()
    changed = compute(samples)
    assert changed[0] == 2
    assert changed[1][0] is None
    assert changed[1][1] == hash_file(samples[1].image.path)
    assert changed[1][5] == hash_file(samples[5].image.path)
    assert compute(samples) == (0, changed[1])


def test_hashing_a_part_of_a_dataset_keeps_the_cached_rest(samples: Samples) -> None:
    assert compute(samples[:2])[0] == 2
    assert compute(samples[2:])[0] == 4
    assert compute(samples)[0] == 0


def test_a_file_that_has_just_changed_is_not_trusted(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sekd.data.image_hashes._SETTLED_AFTER_NS", 2_000_000_000)
    assert compute(samples)[0] == 6
    assert compute(samples)[0] == 6


def test_hashes_from_before_an_interruption_are_cached(samples: Samples) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImageHashes(samples).compute(stop)
    assert ImageHashes(samples).num_unknown == 0


def test_a_damaged_cache_is_ignored(samples: Samples) -> None:
    expected = compute(samples)
    (memory,) = cache_directory().glob("image-hashes/*.parquet")
    memory.write_bytes(memory.read_bytes()[:100])
    assert compute(samples) == expected


def test_a_fifo_among_the_images_has_no_hash(samples: Samples) -> None:
    path = Path(str(samples[0].image))
    path.unlink()
    os.mkfifo(path)
    hashes = ImageHashes(samples)
    assert hashes.num_unknown == len(samples) - 2  # one is missing
    hashes.compute(lambda _: None)
    assert next(iter(hashes)) is None


def test_a_fault_of_storage_is_not_remembered_as_an_image_without_hash(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DELAYS", (0.0,))

    def fail(path: str, *arguments: int) -> int:
        raise OSError(errno.EIO, "not now", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(StorageError, match="not now"):
            compute(samples)
    num_read, hashes = compute(samples)
    assert (num_read, hashes.count(None)) == (6, 1)  # one is missing


def test_a_cache_that_cannot_be_written_is_done_without(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    num_read, hashes = compute(samples)
    assert (num_read, hashes.count(None)) == (6, 1)  # one is missing
