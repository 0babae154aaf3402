"""The cache: a file of a store is copied once, and only with the content that was recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sekd.errors import ShardError
from sekd.io.cache import fetch
from sekd.io.files import remove, write_atomically
from sekd.io.locations import Location, cache_directory, to_location


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A file of a store, with an empty cache on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = to_location(f"memory://{tmp_path.name}/answers.parquet")
    write_atomically(path, b"data")
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_of_this_machine_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    assert fetch(tmp_path, "a", sha256(b"data")) == tmp_path / "a"


@pytest.mark.parametrize("content", [None, b"data and more", b"atad"])
def test_a_file_of_this_machine_must_be_what_was_committed(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(ShardError, match="run the command that made it again"):
        fetch(tmp_path, "a", sha256(b"data"))


def test_a_file_of_a_store_is_copied_once(stored: Location) -> None:
    copy = fetch(stored.parent, stored.name, sha256(b"data"))
    assert copy.read_bytes() == b"data"
    assert copy.suffix == ".parquet"
    assert copy.is_relative_to(cache_directory())
    remove(stored)
    assert fetch(stored.parent, stored.name, sha256(b"data")) == copy


def test_a_damaged_copy_is_fetched_again(stored: Location) -> None:
    copy = fetch(stored.parent, stored.name, sha256(b"data"))
    copy.write_bytes(b"dote")
    assert fetch(stored.parent, stored.name, sha256(b"data")) == copy
    assert copy.read_bytes() == b"data"


def test_another_content_is_refused_and_not_kept(stored: Location) -> None:
    with pytest.raises(ShardError, match="not the file that was committed; run the command"):
        fetch(stored.parent, stored.name, sha256(b"other"))
    assert not [path for path in cache_directory().rglob("*") if path.is_file()]
