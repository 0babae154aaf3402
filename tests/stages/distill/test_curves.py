"""The curves of a training as a table and a figure."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from sekd.stages.distill.curves import write_curves

HISTORY = [
    {"step": 1, "epoch": 0.5, "loss": 2.0, "hard": 1.5, "learning_rate": 1e-3, "grad_norm": 0.7},
    {"step": 2, "epoch": 1.0, "loss": 1.0, "hard": 0.5, "replay": 0.25, "learning_rate": 5e-4,
     "grad_norm": 0.6},
    {"step": 2, "epoch": 1.0, "train_runtime": 3.0},
]  # fmt: skip


def test_a_row_for_each_logged_step_and_a_column_for_each_term(tmp_path: Path) -> None:
    write_curves(HISTORY, tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    names = ["step", "epoch", "loss", "hard", "replay", "learning_rate", "grad_norm"]
    assert header == names
    assert rows == [
        ["1", "0.5", "2.0", "1.5", "", "0.001", "0.7"],
        ["2", "1.0", "1.0", "0.5", "0.25", "0.0005", "0.6"],
    ]


def test_the_figure_has_a_panel_for_each_column(tmp_path: Path) -> None:
    """Three panels a row. A training of one step or with a loss of 0 can be drawn, too."""
    heights = []
    for terms in ({}, {"hard": 0.0, "soft": 0.0}, {"hard": 1.0, "soft": 1.0, "replay": 0.1}):
        write_curves([{"step": 1, "loss": 0.0, **terms}], tmp_path)
        with Image.open(tmp_path / "curves.png") as image:
            image.load()
            assert image.getpixel((0, 0)) == (255, 255, 255, 255)
            assert len(image.getcolors(1 << 24) or []) > 10
            heights.append(image.height)
    assert heights[0] == heights[1] == heights[2] / 2


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    write_curves(HISTORY, tmp_path)
    write_curves(HISTORY[:1], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "curves.png"]
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 2
