"""Locations: paths of this machine, URLs of a store, and where a run keeps local files."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from sekd.io.locations import cache_directory, local_directory, to_location


def test_a_path_is_a_plain_path() -> None:
    for url in ("runs/birds", Path("runs/birds")):
        location = to_location(url)
        assert type(location) is type(Path())
        assert location == Path("runs/birds")


def test_a_url_is_a_place_on_a_store() -> None:
    location = to_location("memory://bucket/birds")
    assert isinstance(location, UPath)
    assert not isinstance(location, Path)
    assert str(location / "answers") == "memory://bucket/birds/answers"


@pytest.mark.parametrize(("home", "expected"), [("/tmp/cache", "/tmp/cache/sekd"), ("", None)])
def test_the_cache_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, home: str, expected: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert cache_directory() == Path(expected or Path.home() / ".cache" / "sekd")


def test_a_run_on_a_store_keeps_local_files_in_the_cache() -> None:
    assert local_directory(Path("runs/a")) == Path("runs/a")
    one, other = (local_directory(to_location(f"memory://bucket/{name}")) for name in "ab")
    assert one.parent == other.parent == cache_directory() / "runs"
    assert one != other
