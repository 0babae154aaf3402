"""sekd draw-world writes where there is nothing, and nowhere else unless it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import sekd

SMALL = ("--train-images", "2", "--test-images", "1")


def test_a_world_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    world = tmp_path / "world"
    assert sekd("draw-world", world, *SMALL).exit_code == 0
    (world / "mine.txt").write_text("notes")
    again = sekd("draw-world", world, *SMALL)
    assert again.exit_code == 2
    assert again.stderr == (
        f"sekd: {world} is not empty; name another directory, or remove what is there with "
        "--overwrite\n"
    )
    assert (world / "mine.txt").is_file()
    assert sekd("draw-world", world, *SMALL, "--overwrite").exit_code == 0
    assert not (world / "mine.txt").exists()
    assert (world / "config.yaml").is_file()


def test_a_folder_of_something_else_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    result = sekd("draw-world", tmp_path, *SMALL, "--overwrite")
    assert result.exit_code == 2
    assert "holds no drawn world" in result.stderr
    assert (tmp_path / "thesis.tex").is_file()


@pytest.mark.parametrize("option", ["--train-images", "--test-images"])
@pytest.mark.parametrize("number", ["-5", "0"])
def test_a_world_without_images_is_refused(tmp_path: Path, option: str, number: str) -> None:
    result = sekd("draw-world", tmp_path / "world", option, number)
    assert result.exit_code == 2
    assert "is not in the range x>=1" in result.stderr
    assert not (tmp_path / "world").exists()
