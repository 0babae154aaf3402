"""Files below a directory: all of them, no pipes, and no folder that is left out in silence."""

from __future__ import annotations

import os
from pathlib import Path

from sekd.io.directories import entries_below, files_below


def test_regular_files_are_found_at_any_depth_and_links_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    files = {root / "a" / "b" / "1", root / "2"}
    for path in files:
        path.write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3").write_text("x")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "pipe")
    assert set(files_below(root)) == files
    assert set(entries_below(root)) == {*files, root / "link", root / "pipe"}


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert not [*files_below(tmp_path / "none"), *entries_below(tmp_path / "none")]
