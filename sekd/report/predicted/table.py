"""Predictions as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os.path import commonpath, relpath
from pathlib import Path

from sekd.data.path_predictions import PathPrediction
from sekd.report.table import Column, Table, Value

_NONE = "-"
_LONGEST_NAME = 30
"""Characters of an image's name that are shown: its end tells images apart."""


def predictions_table(predictions: Sequence[PathPrediction], title: str) -> Table:
    """Show of each image the deepest node that is accepted, or its most probable paths.

    Args:
        predictions: with several paths each, a row is a path.
    """
    predicted = [each for each in predictions if each.error is None]
    folder = _common_folder([each.image for each in predicted])
    if folder:
        title = f"{title} in {folder}"
        predicted = [replace(each, image=relpath(each.image, folder)) for each in predicted]
    if any(len(each.paths) > 1 for each in predicted):
        return _paths_table(predicted, title)
    rows: list[list[Value]] = []
    for each in predicted:
        accepted, leaf = each.accepted, each.levels[-1]
        is_whole = accepted == leaf
        rows.append(
            [
                _shorten(each.image),
                accepted.name if accepted else _NONE,
                accepted.path_probability if accepted else None,
                accepted.rank if accepted else None,
                each.outside,
                leaf.common_name if is_whole else None,
                None if is_whole else leaf.name,
                None if is_whole else each.probability,
            ]
        )
    columns = [
        Column("image", "image"),
        Column("prediction", "prediction"),
        _probability("probability", "probability"),
        Column("rank", "rank", is_text=True),
        _probability("outside", "outside"),
        Column("common_name", "common name", is_text=True),
        Column("leaf", "best guess", is_text=True),
        _probability("leaf_probability", "its"),
    ]
    table = Table("predictions", title, columns, 2, rows, [len(rows)])
    return table.without_empty_columns() if rows else table


def _paths_table(predictions: Sequence[PathPrediction], title: str) -> Table:
    rows: list[list[Value]] = [
        [
            _shorten(each.image) if number == 0 else "",
            path.names[-1],
            path.probability,
            each.outside if number == 0 else None,
            " > ".join(path.names),
        ]
        for each in predictions
        for number, path in enumerate(each.paths)
    ]
    columns = [
        Column("image", "image"),
        Column("leaf", "leaf"),
        _probability("probability", "probability"),
        _probability("outside", "outside"),
        Column("path", "path", is_text=True),
    ]
    groups = [len(each.paths) for each in predictions]
    return Table("paths", title, columns, 2, rows, groups).without_empty_columns()


def _common_folder(images: Sequence[str]) -> str:
    """Return the folder that all paths of images begin with; empty if there is none."""
    folders = [str(Path(image).parent) for image in images]
    if not folders or len({folder.startswith("/") for folder in folders}) > 1:
        return ""
    folder = commonpath(folders)
    return "" if folder in (".", "/") or any("://" in image for image in images) else folder


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _probability(key: str, heading: str) -> Column:
    return Column(key, heading, digits=3, is_probability=True)
