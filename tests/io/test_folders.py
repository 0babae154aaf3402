"""A folder is found as it was published, or made again, and the log says why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from sekd.io.folders import find_folder, publish_folder, reuse_folder
from sekd.io.locations import Location, cache_directory, to_location
from sekd.io.records import DamagedFileError

INPUTS = {"states": "f00d"}


def is_weight(path: str) -> bool:
    return path.endswith("weights")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The directory of a published folder ``adapter``."""
    (tmp_path / "adapter").mkdir()
    for name in ("weights", "curves.csv", "README.md"):
        (tmp_path / "adapter" / name).write_text(f"the {name}")
    publish_folder(tmp_path, tmp_path, "adapter", INPUTS)
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_folder_is_found_and_reused(made: Path) -> None:
    assert find_folder(made, "adapter") == reuse_folder(made, "adapter", INPUTS) == made / "adapter"
    (made / "adapter" / "README.md").write_text("a note of mine")
    assert reuse_folder(made, "adapter", INPUTS) == made / "adapter"
    assert find_folder(made, "nothing") is None
    assert reuse_folder(made, "nothing") is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: flip(folder / "weights"), "weights: not what was written"),
        (lambda folder: (folder / "weights").unlink(), "weights: gone"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "weights: gone"),
        (lambda folder: flip(folder.parent / "adapter.record.json"), "its own hash does not fit"),
    ],
    ids=["flipped", "missing", "emptied", "record"],
)
def test_a_damaged_folder_is_refused_and_made_again(
    made: Path,
    damage: Callable[[Path], object],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(made / "adapter")
    with pytest.raises(DamagedFileError, match=reason):
        find_folder(made, "adapter", is_weight)
    with caplog.at_level(logging.WARNING, logger="sekd"):
        assert reuse_folder(made, "adapter", INPUTS, is_weight) is None
    (line,) = caplog.messages
    assert reason in line
    assert line.endswith("it is made again")
    assert not list(made.iterdir())


def test_what_no_command_reads_is_only_said(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    flip(made / "adapter" / "curves.csv")
    with caplog.at_level(logging.WARNING, logger="sekd"):
        assert reuse_folder(made, "adapter", INPUTS, is_weight) == made / "adapter"
    (line,) = caplog.messages
    assert "curves.csv: not what was written; no command reads it" in line


def test_what_other_inputs_made_is_not_reused(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sekd"):
        assert reuse_folder(made, "adapter", {"states": "other"}) is None
    assert "was made from something else than there is now" in caplog.text


def test_a_folder_without_a_record_does_not_count(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (made / "adapter.record.json").unlink()
    with caplog.at_level(logging.WARNING, logger="sekd"):
        assert find_folder(made, "adapter") is None
    assert "does not count: it has no record of its files" in caplog.text


def test_a_damaged_copy_of_a_folder_is_fetched_again(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    place: Location = to_location(f"memory://{made.name}")
    publish_folder(made, place, "adapter")
    copy = find_folder(place, "adapter")
    assert copy is not None
    assert copy.is_relative_to(cache_directory())
    flip(copy / "weights")
    assert find_folder(place, "adapter") == copy
    assert (copy / "weights").read_text() == "the weights"
    (place / "adapter" / "weights").write_bytes(b"other")
    flip(copy / "weights")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made / "another cache"))
        with pytest.raises(DamagedFileError, match="weights: not what was written"):
            find_folder(place, "adapter")
