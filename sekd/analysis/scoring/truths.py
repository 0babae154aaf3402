"""Take the truth of a file's samples from elsewhere: from their folders, or from another table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sekd.errors import ConfigError
from sekd.io.formats import TableFile

FOLDER = "folder"
"""The value of ``--truth`` by which an image's folder names its leaf."""


def truth_source(where: str) -> Callable[[str], str | None]:
    """Return a function that gives the truth of a sample id, or ``None`` where there is none.

    Args:
        where: :data:`FOLDER`, or the path of a table with the columns ``sample_id`` and ``truth``,
            or with two columns of any names.

    Raises:
        ConfigError: if the table cannot be read, or has other columns.
    """
    if where == FOLDER:
        return lambda sample_id: PurePosixPath(sample_id.replace("\\", "/")).parent.name or None
    path = Path(where)
    file = TableFile.open(path)
    numbered = list(file.rows())
    names = list(numbered[0][1]) if numbered else []
    if {"sample_id", "truth"} <= set(names):
        names = ["sample_id", "truth"]
    if len(names) != 2:
        raise ConfigError(
            f"{path}: give the columns sample_id and truth, or two columns; there are "
            f"{', '.join(map(repr, names)) or 'none'}"
        )
    truths: dict[str, str] = {}
    for number, row in numbered:
        sample_id, truth = str(row.get(names[0])), row.get(names[1])
        if truth is None:
            continue
        if truths.setdefault(sample_id, str(truth)) != str(truth):
            raise ConfigError(
                f"{file.place(number)}: {sample_id!r} has the truth {truth!r} here and "
                f"{truths[sample_id]!r} before"
            )
    counts = Counter(PurePosixPath(sample_id).name for sample_id in truths)
    # Tools write the path as they were given it: its last part is enough where it is unique.
    by_name = {
        PurePosixPath(sample_id).name: truth
        for sample_id, truth in truths.items()
        if counts[PurePosixPath(sample_id).name] == 1
    }
    return lambda sample_id: truths.get(sample_id) or by_name.get(PurePosixPath(sample_id).name)
