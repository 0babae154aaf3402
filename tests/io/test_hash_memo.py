"""A file is hashed once, and again as soon as it may be another one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sekd.io import hash_memo
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import hash_directory, hash_file
from sekd.io.locations import cache_directory

OLD_NS = 1_700_000_000_000_000_000


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the files that were read for their hash; the memo is empty and all files settled."""
    names: list[str] = []

    def spy(path: Path) -> str:
        names.append(path.name)
        return hash_file(path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hash_memo, "hash_file", spy)
    monkeypatch.setattr(hash_memo, "_SETTLED_AFTER_NS", -1)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stage"
    (folder / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        (folder / name).write_text(f"content of {name}")
    return folder


def test_a_file_is_read_once_also_by_another_process(folder: Path, hashed: list[str]) -> None:
    memo = HashMemo(folder)
    assert memo.recall("one") is None
    for _ in range(3):
        assert memo.hash("one") == hash_file(folder / "one")
    assert memo.recall("one") == hash_file(folder / "one")
    assert HashMemo(folder).hash_directory() == hash_directory(folder)
    assert HashMemo(folder).hash_directory("deep") == hash_directory(folder / "deep")
    assert hashed == ["one", "two"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("CONTENT of one"),
        lambda path: path.write_text("content of one, and more"),
        lambda path: (path.parent / "deep" / "two").replace(path),
        lambda path: os.utime(path, ns=(OLD_NS, OLD_NS)),
    ],
    ids=["same size", "other size", "another inode", "another time"],
)
def test_a_file_that_may_have_changed_is_read_again(
    folder: Path, hashed: list[str], change: Callable[[Path], object]
) -> None:
    memo = HashMemo(folder)
    memo.hash("one")
    change(folder / "one")
    assert memo.hash("one") == hash_file(folder / "one")
    assert hashed == ["one", "one"]


def test_a_change_that_keeps_its_time_is_noticed(folder: Path, hashed: list[str]) -> None:
    path = folder / "one"
    os.utime(path, ns=(OLD_NS, OLD_NS))
    memo = HashMemo(folder)
    before = memo.hash("one")
    path.write_text("CONTENT of one")
    os.utime(path, ns=(OLD_NS, OLD_NS))
    assert memo.hash("one") != before


def test_a_young_file_is_not_remembered(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_memo, "_SETTLED_AFTER_NS", 60_000_000_000)
    memo = HashMemo(folder)
    for _ in range(2):
        memo.hash("one")
    assert hashed == ["one", "one"]
    assert memo.recall("one") is None


def test_a_damaged_line_is_forgotten_and_the_others_stay(folder: Path, hashed: list[str]) -> None:
    HashMemo(folder).hash_directory()
    (path,) = (cache_directory() / "file-hashes").iterdir()
    content = bytearray(path.read_bytes())
    content[content.index(b'"one"') + 20] ^= 1
    path.write_bytes(bytes(content) + b"half a line")
    assert HashMemo(folder).hash_directory() == hash_directory(folder)
    assert sorted(hashed) == ["one", "one", "two"]


def test_without_a_cache_every_file_is_read(
    folder: Path, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert HashMemo(folder).hash("one") == hash_file(folder / "one")
    assert HashMemo(folder).hash("one") == hash_file(folder / "one")
    assert hashed == ["one", "one"]
