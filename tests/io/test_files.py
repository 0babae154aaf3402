"""Files: a reader sees all of one or nothing, and of several creators one succeeds."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from sekd.io import faults
from sekd.io.faults import StorageError
from sekd.io.files import (
    create_exclusively,
    names_in,
    read_many,
    remove,
    replace_atomically,
    sizes_below,
    write_atomically,
)


def listing(directory: Path) -> list[str]:
    """All names in a directory, temporary ones included."""
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "below" / "file"
    write_atomically(target, "old")
    with replace_atomically(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent  # so that the rename stays on one file system
    assert target.read_text() == "new"
    assert listing(target.parent) == ["file"]


def test_a_directory_is_renamed_into_place_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replace_atomically(target) as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "weights").write_text("w")
        assert not target.exists()
    assert (target / "deep" / "weights").read_text() == "w"
    assert listing(tmp_path) == ["model"]


def test_everything_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    target = tmp_path / "model"
    with replace_atomically(target) as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "weights").touch()
    inside = {path.stat().st_ino for path in target.rglob("*")}
    assert set(flushed[:2]) == inside
    assert flushed[2:] == [target.stat().st_ino, tmp_path.stat().st_ino]
    flushed.clear()
    record = tmp_path / "record"
    create_exclusively(record, "1")
    assert flushed == [record.stat().st_ino, tmp_path.stat().st_ino]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_block_that_raises_leaves_the_target_as_it_was(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def write_half() -> None:
        with replace_atomically(target) as temporary:
            make(temporary)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["file"]


def test_a_directory_does_not_replace_another(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("of the faster process")
    with pytest.raises(OSError, match="not empty"), replace_atomically(target) as temporary:
        temporary.mkdir()
    assert (target / "weights").read_text() == "of the faster process"
    assert listing(tmp_path) == ["model"]


@pytest.mark.parametrize("content", ["é\n", b"\xff\x00"])
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "atomic", content)
    create_exclusively(tmp_path / "exclusive", content)
    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "atomic").read_bytes() == expected
    assert (tmp_path / "exclusive").read_bytes() == expected


def no_links(source: object, target: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


@pytest.mark.parametrize("has_links", [True, False])
def test_one_of_several_creators_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "below" / "record"

    def create(number: int) -> bool:
        try:
            create_exclusively(path, str(number))
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        succeeded = list(pool.map(create, range(24)))
    assert succeeded.count(True) == 1
    assert path.read_text() == str(succeeded.index(True))
    assert listing(path.parent) == ["record"]


def test_names_are_sorted_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    for name in ("b", "a", ".temporary"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["a", "b"]
    assert names_in(tmp_path / "missing") == []


def test_files_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    assert read_many(tmp_path, ["a", "missing", "folder"]) == {"a": b"1"}


def test_sizes_are_those_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("12")
    (tmp_path / "b").write_text("1")
    assert sizes_below(tmp_path) == {"deep/a": 2, "b": 1}
    assert sizes_below(tmp_path / "missing") == {}


def test_files_and_directories_are_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    (tmp_path / "b").touch()
    for name in ("folder", "b", "missing"):
        remove(tmp_path / name)
    assert listing(tmp_path) == []


class UnavailableError(Exception):
    """An error as gcsfs raises it."""

    code = 503


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[UPath]:
    """A folder of a store of which every operation first fails twice."""
    monkeypatch.setattr(faults, "DELAYS", (0.0, 0.0, 0.0))
    place = UPath("memory://bucket/folder")
    num_calls: Counter[str] = Counter()

    def fail_twice(name: str) -> Callable[..., object]:
        operation = getattr(MemoryFileSystem, name)

        def run(*arguments: object, **keywords: object) -> object:
            call = f"{name} {arguments[1]}"
            num_calls[call] += 1
            if num_calls[call] % 3:
                raise UnavailableError("slow down")
            return operation(*arguments, **keywords)

        return run

    with monkeypatch.context() as patch:
        for name in ("ls", "cat_file", "pipe_file", "find", "rm"):
            patch.setattr(MemoryFileSystem, name, fail_twice(name))
        yield place
    place.fs.rm("bucket", recursive=True)


def test_a_store_that_is_busy_is_asked_again(store: UPath) -> None:
    create_exclusively(store / "a", b"1")
    with pytest.raises(FileExistsError):
        create_exclusively(store / "a", b"2")
    write_atomically(store / "b", b"22")
    assert names_in(store) == ["a", "b"]
    assert read_many(store, ["a", "b", "missing"]) == {"a": b"1", "b": b"22"}
    assert sizes_below(store) == {"a": 1, "b": 2}


def test_what_stays_unreadable_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DELAYS", ())
    place = UPath("memory://bucket/other")
    write_atomically(place / "a", b"1")

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("slow down")

    for name in ("ls", "cat_file", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    for operation in (lambda: names_in(place), lambda: read_many(place, ["a"])):
        with pytest.raises(StorageError, match="slow down"):
            operation()


def test_a_link_that_was_made_although_it_was_reported_as_failed_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does where the server's reply was lost and the request is sent again."""
    link = os.link

    def make_and_fail(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "exists", str(target))

    monkeypatch.setattr(os, "link", make_and_fail)
    create_exclusively(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "a", b"2")
